//! What `/metrics` shows, as OTLP has it: the same families under the same names.

use std::time::SystemTime;

use prometheus::proto::{self, MetricFamily, MetricType};
use serde::Serialize;

use super::otlp::{Attribute, Long, nanos};

/// `AGGREGATION_TEMPORALITY_CUMULATIVE`: values count from the start of the server on.
const CUMULATIVE: u8 = 2;

#[derive(Serialize)]
pub(super) struct Metric<'a> {
    name: &'a str,
    description: &'a str,
    #[serde(flatten)]
    data: Data<'a>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
enum Data<'a> {
    #[serde(rename_all = "camelCase")]
    Gauge { data_points: Vec<Number<'a>> },
    #[serde(rename_all = "camelCase")]
    Sum {
        data_points: Vec<Number<'a>>,
        aggregation_temporality: u8,
        is_monotonic: bool,
    },
    #[serde(rename_all = "camelCase")]
    Histogram {
        data_points: Vec<Histogram<'a>>,
        aggregation_temporality: u8,
    },
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Point<'a> {
    attributes: Vec<Attribute<'a>>,
    start_time_unix_nano: Long<u128>,
    time_unix_nano: Long<u128>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Number<'a> {
    #[serde(flatten)]
    point: Point<'a>,
    as_double: f64,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Histogram<'a> {
    #[serde(flatten)]
    point: Point<'a>,
    count: Long<u64>,
    sum: f64,
    /// Of each bucket by itself, and of what is above the last one.
    bucket_counts: Vec<Long<u64>>,
    explicit_bounds: Vec<f64>,
}

/// The families of a registry that has counted since `start`. None has a type that is not used here.
pub(super) fn converted(
    families: &[MetricFamily],
    start: SystemTime,
    now: SystemTime,
) -> Vec<Metric<'_>> {
    let point = |metric| Point::new(metric, start, now);
    let convert = |family| Metric::of(family, point);
    families.iter().filter_map(convert).collect()
}

impl<'a> Metric<'a> {
    /// How many it has.
    pub(super) fn data_points(&self) -> u64 {
        let count = match &self.data {
            Data::Gauge { data_points } | Data::Sum { data_points, .. } => data_points.len(),
            Data::Histogram { data_points, .. } => data_points.len(),
        };
        count as u64
    }

    fn of(
        family: &'a MetricFamily,
        point: impl Fn(&'a proto::Metric) -> Point<'a>,
    ) -> Option<Self> {
        let metrics = family.get_metric().iter();
        let numbers = |value: fn(&proto::Metric) -> f64| {
            let number = |metric| Number {
                point: point(metric),
                as_double: value(metric),
            };
            metrics.clone().map(number).collect()
        };
        let data = match family.get_field_type() {
            MetricType::GAUGE => Data::Gauge {
                data_points: numbers(|metric| metric.get_gauge().get_value()),
            },
            MetricType::COUNTER => Data::Sum {
                data_points: numbers(|metric| metric.get_counter().get_value()),
                aggregation_temporality: CUMULATIVE,
                is_monotonic: true,
            },
            MetricType::HISTOGRAM => Data::Histogram {
                data_points: metrics
                    .map(|metric| Histogram::of(metric.get_histogram(), point(metric)))
                    .collect(),
                aggregation_temporality: CUMULATIVE,
            },
            MetricType::SUMMARY | MetricType::UNTYPED => return None,
        };
        Some(Self {
            name: family.name(),
            description: family.help(),
            data,
        })
    }
}

impl<'a> Point<'a> {
    fn new(metric: &'a proto::Metric, start: SystemTime, now: SystemTime) -> Self {
        let labels = metric.get_label().iter();
        Self {
            attributes: labels
                .map(|pair| Attribute::text(pair.name(), pair.value()))
                .collect(),
            start_time_unix_nano: nanos(start),
            time_unix_nano: nanos(now),
        }
    }
}

impl<'a> Histogram<'a> {
    fn of(histogram: &proto::Histogram, point: Point<'a>) -> Self {
        let count = histogram.get_sample_count();
        let mut below = 0;
        let (mut bucket_counts, mut explicit_bounds) = (Vec::new(), Vec::new());
        let finite = histogram.get_bucket().iter();
        for bucket in finite.filter(|bucket| bucket.upper_bound().is_finite()) {
            explicit_bounds.push(bucket.upper_bound());
            bucket_counts.push(Long(bucket.cumulative_count() - below));
            below = bucket.cumulative_count();
        }
        bucket_counts.push(Long(count.saturating_sub(below)));
        Self {
            point,
            count: Long(count),
            sum: histogram.get_sample_sum(),
            bucket_counts,
            explicit_bounds,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use prometheus::{HistogramOpts, HistogramVec, IntCounterVec, IntGauge, Opts, Registry};
    use serde_json::json;

    use super::*;

    #[test]
    fn families_keep_their_names_labels_and_values() {
        let registry = Registry::new();
        let gauge = IntGauge::new("clients", "Clients").unwrap();
        let counters = IntCounterVec::new(Opts::new("events_total", "Events"), &["plugin"]);
        let counters = counters.unwrap();
        let opts = HistogramOpts::new("call_seconds", "Calls").buckets(vec![0.1, 1.0]);
        let calls = HistogramVec::new(opts, &["plugin"]).unwrap();
        registry.register(Box::new(gauge.clone())).unwrap();
        registry.register(Box::new(counters.clone())).unwrap();
        registry.register(Box::new(calls.clone())).unwrap();
        gauge.set(3);
        counters.with_label_values(&["a"]).inc_by(5);
        for seconds in [0.05, 0.5, 0.75, 7.0] {
            calls.with_label_values(&["a"]).observe(seconds);
        }
        let start = SystemTime::UNIX_EPOCH + Duration::from_nanos(1);
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(2);
        let families = registry.gather();
        let point = |mut values: serde_json::Value, attributes| {
            values["attributes"] = attributes;
            values["startTimeUnixNano"] = json!("1");
            values["timeUnixNano"] = json!("2000000000");
            values
        };
        let of_a = json!([{ "key": "plugin", "value": { "stringValue": "a" } }]);
        let histogram = json!({
            "count": "4", "sum": 8.3, "bucketCounts": ["1", "2", "1"], "explicitBounds": [0.1, 1.0]
        });
        assert_eq!(
            serde_json::to_value(converted(&families, start, now)).unwrap(),
            json!([
                {
                    "name": "call_seconds", "description": "Calls",
                    "histogram": {
                        "dataPoints": [point(histogram, of_a.clone())],
                        "aggregationTemporality": 2
                    }
                },
                {
                    "name": "clients", "description": "Clients",
                    "gauge": { "dataPoints": [point(json!({ "asDouble": 3.0 }), json!([]))] }
                },
                {
                    "name": "events_total", "description": "Events",
                    "sum": {
                        "dataPoints": [point(json!({ "asDouble": 5.0 }), of_a)],
                        "aggregationTemporality": 2, "isMonotonic": true
                    }
                },
            ])
        );
    }
}
