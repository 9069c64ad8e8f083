//! PromQL: metrics of the hosts that a dashboard's variables choose.

/// What each expression of a dashboard selects by; a test holds all of them to it.
pub(super) const CHOSEN: &str = r#"cluster=~"$cluster",job=~"$job",instance=~"$instance""#;

/// `audit_collector_NAME` of the chosen hosts.
pub(super) fn metric(name: &str) -> String {
    format!("audit_collector_{name}{{{CHOSEN}}}")
}

/// The same, with further `matchers`.
pub(super) fn metric_with(name: &str, matchers: &str) -> String {
    format!("audit_collector_{name}{{{CHOSEN},{matchers}}}")
}

/// A metric of another name, such as a recorded one.
pub(super) fn series(name: &str, matchers: &str) -> String {
    if matchers.is_empty() {
        format!("{name}{{{CHOSEN}}}")
    } else {
        format!("{name}{{{CHOSEN},{matchers}}}")
    }
}

/// How fast a counter grows, per second.
pub(super) fn rate(selector: &str) -> String {
    format!("rate({selector}[$__rate_interval])")
}

/// By how much a counter grew within the dashboard's time range.
pub(super) fn increase(selector: &str) -> String {
    format!("increase({selector}[$__range])")
}

/// The moments of a time range: as far apart as the points of a graph, and each with a `$__rate_interval` before it, which is longer
/// by a scrape at least. What happened between two scrapes is seen from one of them; from moments a `$__rate_interval` apart it would
/// not be where the two lie on either side of one.
const MOMENTS: &str = "[$__range:$__interval]";

/// Of the series of `expr` those that are greatest at any moment of the time range, at most `count`. `topk` alone would choose anew
/// for every moment, and there would be as many lines as were ever among them.
pub(super) fn highest(count: u8, expr: &str) -> String {
    format!("({expr}) and topk({count}, max_over_time(({expr}){MOMENTS} @ end()))")
}

/// The same of those that are least.
pub(super) fn lowest(count: u8, expr: &str) -> String {
    format!("({expr}) and bottomk({count}, min_over_time(({expr}){MOMENTS} @ end()))")
}

/// What `expr`, which has a value only where there is something, is on average over the time range.
pub(super) fn mean(expr: &str) -> String {
    format!("sum_over_time(({expr}){MOMENTS}) / scalar(count_over_time(vector(1){MOMENTS}))")
}

/// The `quantile` of a histogram, over what `by` names beside the hosts' labels.
pub(super) fn quantile(quantile: &str, name: &str, by: &str) -> String {
    let buckets = rate(&metric(&format!("{name}_bucket")));
    format!("histogram_quantile({quantile}, sum by (le, {by}) ({buckets}))")
}
