//! The web config file: TLS, headers, users and rate limit, in the format that Prometheus's exporters share
//! (docs/web-configuration.md of prometheus/exporter-toolkit).
//!
//! Owns reading the file and what it names, and what makes a checked [`WebConfig`] of them. Bounds: `FILE_BYTES` per file. A key
//! that the format does not have is an error. No message quotes the file, which holds secrets.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use axum::http::{HeaderName, HeaderValue};
use serde::Deserialize;

use super::access::Users;
use super::rate_limit::RateLimit;
use super::tls::{self, TlsFile};

/// Most bytes of a web config file, and of each file it names.
const FILE_BYTES: u64 = 1 << 20;

/// The headers that may be set, and their values where there is a choice (exporter-toolkit's `extraHTTPHeaders`).
const HEADERS: [(&str, &[&str]); 5] = [
    ("Strict-Transport-Security", &[]),
    ("X-Content-Type-Options", &["nosniff"]),
    ("X-Frame-Options", &["deny", "sameorigin"]),
    ("X-XSS-Protection", &[]),
    ("Content-Security-Policy", &[]),
];

/// Why a web config file was refused.
#[derive(Debug, thiserror::Error)]
pub enum WebConfigError {
    /// It, or a file it names, could not be read.
    #[error("cannot read {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the kernel said.
        source: std::io::Error,
    },
    /// It, or a file it names, is larger than any such file.
    #[error("{} is larger than {FILE_BYTES} bytes", path.display())]
    TooLarge {
        /// The file.
        path: PathBuf,
    },
    /// It is not YAML, or has a key or a value that the format does not have.
    #[error("{}:{line}: {what}", path.display())]
    Format {
        /// The file.
        path: PathBuf,
        /// The line, from 1; 0 where it is not known.
        line: u64,
        /// What is wrong.
        what: String,
    },
    /// What it says cannot be had.
    #[error("{}: {setting}: {what}", path.display())]
    Setting {
        /// The file.
        path: PathBuf,
        /// The key.
        setting: &'static str,
        /// What is wrong with it.
        what: String,
    },
    /// It would switch TLS on or off under those who are connected.
    #[error("{}: TLS can be switched on or off by a restart only", path.display())]
    TlsSwitched {
        /// The file.
        path: PathBuf,
    },
}

impl WebConfigError {
    /// The error and its cause in one line.
    pub(super) fn told(&self) -> String {
        match std::error::Error::source(self) {
            Some(source) => format!("{self}: {source}"),
            None => self.to_string(),
        }
    }
}

/// What is wrong with which key; the file is put before it by [`Material::check`].
pub(super) type Fault = (&'static str, String);

/// What the web config file asks for, checked.
#[derive(Debug, Default)]
pub(super) struct WebConfig {
    /// None for plain HTTP.
    pub(super) tls: Option<Arc<rustls::ServerConfig>>,
    /// Set in every answer.
    pub(super) headers: Vec<(HeaderName, HeaderValue)>,
    /// Who may ask; everybody where there are none.
    pub(super) users: Users,
    /// How often.
    pub(super) rate_limit: Option<RateLimit>,
}

/// The file as it is written.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct WebConfigFile {
    tls_server_config: Option<TlsFile>,
    http_server_config: Option<HttpFile>,
    basic_auth_users: Option<BTreeMap<String, String>>,
    rate_limit: Option<RateLimitFile>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct HttpFile {
    /// Taken and left at that: HTTP/1.1 is all that is spoken, as to a client without HTTP/2.
    #[serde(rename = "http2")]
    _http2: Option<bool>,
    headers: Option<BTreeMap<String, String>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct RateLimitFile {
    interval: Option<String>,
    burst: Option<u32>,
}

/// The web config file and the files it names, as read at one moment. Two that are equal make the same [`WebConfig`].
#[derive(PartialEq, Eq)]
pub(super) struct Material {
    path: PathBuf,
    text: Vec<u8>,
    /// What is in the files that the TLS section names.
    pub(super) named: BTreeMap<PathBuf, Vec<u8>>,
}

impl Material {
    /// Reads the file at `path` and what it names. Relative names are relative to its folder.
    pub(super) fn read(path: &Path) -> Result<Self, WebConfigError> {
        let mut material = Self {
            path: path.to_owned(),
            text: read(path)?,
            named: BTreeMap::new(),
        };
        if let Some(tls) = material.parse()?.tls_server_config {
            for name in tls.files() {
                let file = material.place(name);
                let bytes = read(&file)?;
                material.named.insert(file, bytes);
            }
        }
        Ok(material)
    }

    /// Where a file that is named in the config file lies.
    pub(super) fn place(&self, name: &Path) -> PathBuf {
        self.path
            .parent()
            .map_or_else(|| name.to_owned(), |folder| folder.join(name))
    }

    /// What it asks for.
    pub(super) fn check(&self) -> Result<WebConfig, WebConfigError> {
        let file = self.parse()?;
        self.checked(file)
            .map_err(|(setting, what)| WebConfigError::Setting {
                path: self.path.clone(),
                setting,
                what,
            })
    }

    fn checked(&self, file: WebConfigFile) -> Result<WebConfig, Fault> {
        let http = file.http_server_config.unwrap_or_default();
        Ok(WebConfig {
            tls: match file.tls_server_config {
                Some(section) if section.is_enabled() => Some(tls::server_config(&section, self)?),
                _ => None,
            },
            headers: http
                .headers
                .unwrap_or_default()
                .into_iter()
                .map(header)
                .collect::<Result<_, _>>()?,
            users: Users::new(file.basic_auth_users.unwrap_or_default())?,
            rate_limit: match file.rate_limit {
                None => None,
                Some(limit) => rate_limit(&limit)?,
            },
        })
    }

    fn parse(&self) -> Result<WebConfigFile, WebConfigError> {
        let options = serde_saphyr::options! { with_snippet: false };
        serde_saphyr::from_slice_with_options::<Option<WebConfigFile>>(&self.text, options)
            .map(Option::unwrap_or_default)
            .map_err(|error| WebConfigError::Format {
                path: self.path.clone(),
                line: error.location().map_or(0, |location| location.line()),
                what: one_line(&error.without_snippet().to_string()),
            })
    }
}

fn read(path: &Path) -> Result<Vec<u8>, WebConfigError> {
    let error = |source| WebConfigError::Read {
        path: path.to_owned(),
        source,
    };
    let mut bytes = Vec::new();
    // One byte more than is allowed tells a file that is too large from one that is just not.
    File::open(path)
        .and_then(|file| file.take(FILE_BYTES + 1).read_to_end(&mut bytes))
        .map_err(error)?;
    if bytes.len() as u64 > FILE_BYTES {
        return Err(WebConfigError::TooLarge {
            path: path.to_owned(),
        });
    }
    Ok(bytes)
}

/// A message on one line without control characters, whatever the file has in it.
fn one_line(message: &str) -> String {
    message
        .split(char::is_control)
        .filter(|part| !part.is_empty())
        .collect::<Vec<_>>()
        .join(", ")
}

fn header((name, value): (String, String)) -> Result<(HeaderName, HeaderValue), Fault> {
    const SETTING: &str = "http_server_config.headers";
    let Some((_, choice)) = HEADERS.iter().find(|(known, _)| *known == name) else {
        let known: Vec<_> = HEADERS.iter().map(|(known, _)| *known).collect();
        let what = format!("'{}' is none of {}", one_line(&name), known.join(", "));
        return Err((SETTING, what));
    };
    if !choice.is_empty() && !choice.contains(&value.as_str()) {
        return Err((SETTING, format!("{name} is not {}", choice.join(" or "))));
    }
    let bad = || (SETTING, format!("{name} has a value no header can have"));
    let known = HeaderName::try_from(&name).map_err(|_| bad())?;
    let value = HeaderValue::try_from(&value).map_err(|_| bad())?;
    Ok((known, value))
}

fn rate_limit(file: &RateLimitFile) -> Result<Option<RateLimit>, Fault> {
    let interval = match &file.interval {
        None => Duration::ZERO,
        Some(text) => duration(text).ok_or_else(|| {
            let what = format!("'{}' is no duration such as 1s or 250ms", one_line(text));
            ("rate_limit.interval", what)
        })?,
    };
    if interval.is_zero() {
        return Ok(None);
    }
    match file.burst {
        None | Some(0) => {
            let what = "without one that is above 0 every request would be refused".to_owned();
            Err(("rate_limit.burst", what))
        }
        Some(burst) => Ok(Some(RateLimit::new(interval, burst))),
    }
}

/// A duration as Go's `time.ParseDuration` reads it: numbers with a unit each, `1m30s`; `0` has none.
fn duration(text: &str) -> Option<Duration> {
    if text == "0" {
        return Some(Duration::ZERO);
    }
    let mut rest = text;
    let mut seconds = 0.0;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let number: f64 = rest[..digits].parse().ok()?;
        let unit = &rest[digits..];
        let length = unit
            .find(|c: char| c.is_ascii_digit() || c == '.')
            .unwrap_or(unit.len());
        seconds += number
            * match &unit[..length] {
                "ns" => 1e-9,
                "us" | "µs" => 1e-6,
                "ms" => 1e-3,
                "s" => 1.0,
                "m" => 60.0,
                "h" => 3_600.0,
                _ => return None,
            };
        rest = &unit[length..];
    }
    (!text.is_empty())
        .then(|| Duration::try_from_secs_f64(seconds).ok())
        .flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str) -> Result<WebConfig, String> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("web.yml");
        std::fs::write(&path, text).unwrap();
        let said = |error: WebConfigError| {
            let text = error.told();
            text.replace(&format!("{}/", folder.path().display()), "")
        };
        Material::read(&path).map_err(said)?.check().map_err(said)
    }

    #[test]
    fn nothing_asked_for_is_plain_http_for_everybody() {
        for text in [
            "",
            "# nothing\n",
            "tls_server_config:\n",
            "tls_server_config: {}\nhttp_server_config:\n  http2: false\n",
            "rate_limit:\n  interval: 0\n",
        ] {
            let config = check(text).unwrap_or_else(|error| panic!("{text}: {error}"));
            assert!(config.tls.is_none() && config.users.is_empty(), "{text}");
            assert!(config.rate_limit.is_none(), "{text}");
        }
    }

    #[test]
    fn a_fault_is_named_with_its_place_and_without_secrets() {
        for (text, wanted) in [
            ("tls_config:\n  a: 1\n", "web.yml:1: "),
            ("http_server_config:\n  http3: true\n", "web.yml:2: "),
            ("basic_auth_users: [a\n", "web.yml:"),
            (
                "basic_auth_users:\n  alice: hunter2\n",
                "basic_auth_users: ",
            ),
            (
                "http_server_config:\n  headers:\n    X-Frame-Options: maybe\n",
                "X-Frame-Options is not deny or sameorigin",
            ),
            (
                "http_server_config:\n  headers:\n    Set-Cookie: a\n",
                "'Set-Cookie' is none of ",
            ),
            ("rate_limit:\n  interval: 1s\n", "rate_limit.burst: "),
            (
                "rate_limit:\n  interval: soon\n  burst: 2\n",
                "'soon' is no duration",
            ),
            ("tls_server_config:\n  cert_file: c\n", "cannot read c"),
            ("tls_server_config:\n  key: k\n", "cert or cert_file"),
        ] {
            let error = check(text).map(|_| ()).unwrap_err();
            assert!(error.contains(wanted), "{text}: {error}");
            assert!(!error.contains("hunter2"), "{error}");
            assert!(!error.contains('\n'), "{error}");
        }
    }

    #[test]
    fn headers_are_taken_as_they_are() {
        let text = "http_server_config:\n  headers:\n    X-Frame-Options: deny\n    Strict-Transport-Security: max-age=60\n";
        let config = check(text).unwrap();
        assert_eq!(config.headers.len(), 2);
        assert!(
            config
                .headers
                .iter()
                .any(|(name, value)| name == "x-frame-options" && value == "deny")
        );
    }

    #[test]
    fn durations_are_read_as_go_does() {
        assert_eq!(duration("1s"), Some(Duration::from_secs(1)));
        assert_eq!(duration("1m1.5s"), Some(Duration::from_millis(61_500)));
        assert_eq!(duration("250ms"), Some(Duration::from_millis(250)));
        for bad in [
            "",
            "1",
            "s",
            "-1s",
            "1 s",
            "1d",
            "..s",
            "9e9s",
            "99999999999999999999h",
        ] {
            assert_eq!(duration(bad), None, "{bad}");
        }
    }

    #[test]
    fn a_file_without_end_is_refused() {
        let error = Material::read(Path::new("/dev/zero"))
            .map(|_| ())
            .unwrap_err();
        assert!(matches!(error, WebConfigError::TooLarge { .. }), "{error}");
    }
}
