//! Prometheus's remote write, version 0.1.0: values in protobuf, compressed with snappy.

use anyhow::Context as _;
use prost::Message;

use crate::prometheus::Series;

#[derive(Message)]
struct WriteRequest {
    #[prost(message, repeated, tag = "1")]
    timeseries: Vec<TimeSeries>,
}

#[derive(Message)]
struct TimeSeries {
    #[prost(message, repeated, tag = "1")]
    labels: Vec<Label>,
    #[prost(message, repeated, tag = "2")]
    samples: Vec<Sample>,
}

#[derive(Message)]
struct Label {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(string, tag = "2")]
    value: String,
}

#[derive(Message)]
struct Sample {
    #[prost(double, tag = "1")]
    value: f64,
    /// Milliseconds since 1970.
    #[prost(int64, tag = "2")]
    timestamp: i64,
}

/// The body of the request that writes `series`.
///
/// # Errors
/// Where there is too much of them for one.
pub(crate) fn request(series: &[Series]) -> anyhow::Result<Vec<u8>> {
    let timeseries = series.iter().map(|one| TimeSeries {
        labels: one
            .labels
            .iter()
            .map(|(name, value)| Label {
                name: name.clone(),
                value: value.clone(),
            })
            .collect(),
        samples: one
            .values
            .iter()
            .map(|(seconds, value)| Sample {
                value: *value,
                timestamp: (seconds * 1_000.0).round() as i64,
            })
            .collect(),
    });
    let request = WriteRequest {
        timeseries: timeseries.collect(),
    };
    snap::raw::Encoder::new()
        .compress_vec(&request.encode_to_vec())
        .context("cannot compress the request")
}
