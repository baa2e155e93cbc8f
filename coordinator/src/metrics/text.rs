//! Families of metrics as text: Prometheus 0.0.4, and OpenMetrics 1.0 for who asks for it. Made anew for each scrape from what is known then;
//! nothing is registered. Left out: which families there are ([`super::scrape`]).

use super::histogram::Snapshot;
use std::fmt::Write;

/// How a scrape is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    Prometheus,
    OpenMetrics,
}

impl Format {
    /// By the `Accept` header: Prometheus asks for OpenMetrics by name where it can read it.
    #[must_use]
    pub fn accepted(accept: Option<&str>) -> Self {
        match accept {
            Some(accept) if accept.contains("application/openmetrics-text") => Self::OpenMetrics,
            _ => Self::Prometheus,
        }
    }

    /// The content type of an answer.
    #[must_use]
    pub fn content_type(self) -> &'static str {
        match self {
            Self::Prometheus => "text/plain; version=0.0.4; charset=utf-8",
            Self::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
        }
    }
}

/// What the samples of a family are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Gauge,
    Counter,
    Histogram,
}

/// A text in the making.
#[derive(Debug)]
pub struct Exposition {
    text: String,
    format: Format,
}

/// Names and values of labels.
pub type Labels<'a> = &'a [(&'a str, &'a str)];

/// A family; its head is written before its first sample, and not without one.
#[derive(Debug)]
pub struct Family<'a> {
    text: &'a mut String,
    name: &'static str,
    head: Option<String>,
}

impl Exposition {
    /// An empty one.
    #[must_use]
    pub fn new(format: Format) -> Self {
        Self { text: String::new(), format }
    }

    /// Begins a family. The name of a counter ends with `_total`; `help` is one line without a backslash.
    pub fn family(&mut self, kind: Kind, name: &'static str, help: &str) -> Family<'_> {
        let word = match kind {
            Kind::Gauge => "gauge",
            Kind::Counter => "counter",
            Kind::Histogram => "histogram",
        };
        debug_assert_eq!(kind == Kind::Counter, name.ends_with("_total"), "{name}");
        // OpenMetrics names the family of a counter without the suffix that its sample has.
        let head = match self.format {
            Format::OpenMetrics => name.strip_suffix("_total").unwrap_or(name),
            Format::Prometheus => name,
        };
        let head = Some(format!("# HELP {head} {help}\n# TYPE {head} {word}\n"));
        Family { text: &mut self.text, name, head }
    }

    /// The whole text.
    #[must_use]
    pub fn finish(mut self) -> String {
        if self.format == Format::OpenMetrics {
            self.text.push_str("# EOF\n");
        }
        self.text
    }
}

impl Family<'_> {
    /// One sample.
    pub fn sample(&mut self, labels: Labels<'_>, value: f64) -> &mut Self {
        self.line("", labels, None, value)
    }

    /// One sample that is a count.
    pub fn count(&mut self, labels: Labels<'_>, value: u64) -> &mut Self {
        self.line("", labels, None, value as f64)
    }

    /// The samples of a histogram.
    pub fn histogram(&mut self, labels: Labels<'_>, snapshot: &Snapshot) -> &mut Self {
        for (bound, count) in &snapshot.buckets {
            self.line("_bucket", labels, Some(*bound), *count as f64);
        }
        self.line("_sum", labels, None, snapshot.sum);
        self.line("_count", labels, None, snapshot.count() as f64)
    }

    fn line(&mut self, suffix: &str, labels: Labels<'_>, le: Option<f64>, value: f64) -> &mut Self {
        self.text.push_str(&self.head.take().unwrap_or_default());
        self.text.push_str(self.name);
        self.text.push_str(suffix);
        // As OpenMetrics wants its bounds: `1.0`. The older format reads it too.
        let le = le.map(|le| if le.is_finite() { format!("{le:?}") } else { number(le) });
        let all = labels.iter().copied().chain(le.iter().map(|le| ("le", le.as_str())));
        for (at, (name, value)) in all.enumerate() {
            self.text.push(if at == 0 { '{' } else { ',' });
            // Writing into a text can't fail.
            let _ = write!(self.text, "{name}=\"{}\"", escaped(value));
        }
        if !labels.is_empty() || le.is_some() {
            self.text.push('}');
        }
        let _ = writeln!(self.text, " {}", number(value));
        self
    }
}

fn number(value: f64) -> String {
    if value == f64::INFINITY { "+Inf".to_owned() } else { value.to_string() }
}

fn escaped(value: &str) -> String {
    value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(format: Format) -> String {
        let mut all = Exposition::new(format);
        all.family(Kind::Counter, "a_total", "Ends.").count(&[("cause", "a\"b\\\n")], 3);
        all.family(Kind::Gauge, "nothing", "Of nothing.");
        all.family(Kind::Gauge, "b", "Leases.").sample(&[], 0.5);
        let snapshot = Snapshot { buckets: vec![(0.1, 1), (f64::INFINITY, 2)], sum: 1.5 };
        all.family(Kind::Histogram, "c_seconds", "Times.").histogram(&[], &snapshot);
        all.finish()
    }

    #[test]
    fn a_text_of_each_format() {
        let prometheus = "# HELP a_total Ends.\n# TYPE a_total counter\na_total{cause=\"a\\\"b\\\\\\n\"} 3\n\
            # HELP b Leases.\n# TYPE b gauge\nb 0.5\n\
            # HELP c_seconds Times.\n# TYPE c_seconds histogram\nc_seconds_bucket{le=\"0.1\"} 1\n\
            c_seconds_bucket{le=\"+Inf\"} 2\nc_seconds_sum 1.5\nc_seconds_count 2\n";
        assert_eq!(written(Format::Prometheus), prometheus);
        let open = prometheus.replace("HELP a_total", "HELP a").replace("TYPE a_total", "TYPE a") + "# EOF\n";
        assert_eq!(written(Format::OpenMetrics), open);
    }

    #[test]
    fn openmetrics_is_for_those_who_name_it() {
        let accept = "application/openmetrics-text;version=1.0.0;q=0.5,text/plain;version=0.0.4;q=0.3";
        assert_eq!(Format::accepted(Some(accept)), Format::OpenMetrics);
        assert_eq!(Format::accepted(Some("*/*")), Format::Prometheus);
        assert_eq!(Format::accepted(None), Format::Prometheus);
    }
}
