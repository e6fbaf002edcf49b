//! A strict parser for the text formats of metrics. It checks the rules that Prometheus and the OpenMetrics
//! specification state, as far as the platform's output can break them.

use std::collections::{BTreeMap, BTreeSet};

/// The labels of a sample.
pub(crate) type Labels = BTreeMap<String, String>;

/// A sample: its name, labels, value, and exemplar, if any.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Sample {
    pub(crate) name: String,
    pub(crate) labels: Labels,
    pub(crate) value: f64,
    pub(crate) exemplar: Option<(Labels, f64, f64)>,
}

/// Parses a text. Panics at the first violated rule.
pub(crate) fn parse(text: &str, is_open_metrics: bool) -> Vec<Sample> {
    assert!(text.is_empty() || text.ends_with('\n'), "the last line has no end");
    let mut lines: Vec<_> = text.lines().collect();
    if is_open_metrics {
        assert_eq!(lines.pop(), Some("# EOF"));
    }
    let (mut samples, mut families, mut seen) = (Vec::new(), BTreeSet::new(), BTreeSet::new());
    let mut family: Option<(String, String)> = None;
    let mut lines = lines.into_iter().peekable();
    while let Some(line) = lines.next() {
        if let Some(help) = line.strip_prefix("# HELP ") {
            let (name, help) = help.split_once(' ').expect("a name and a text");
            assert!(is_name(name) && !help.is_empty(), "{line}");
            assert!(families.insert(name.to_owned()), "the family `{name}` occurs twice");
            let kind = lines.next().and_then(|line| line.strip_prefix(&format!("# TYPE {name} ")));
            let kind = kind.expect("a type follows the help").to_owned();
            assert!(["counter", "gauge", "histogram"].contains(&&*kind), "{kind}");
            if let Some(unit) = lines.next_if(|line| line.starts_with("# UNIT ")) {
                let (unit_of, unit) = unit["# UNIT ".len()..].split_once(' ').expect("a name and a unit");
                assert!(is_open_metrics && unit_of == name && name.ends_with(&format!("_{unit}")), "{unit}");
            }
            family = Some((name.to_owned(), kind));
            continue;
        }
        let sample = parse_sample(line);
        let (name, kind) = family.as_ref().expect("a family before its samples");
        check_name(&sample.name, name, kind, is_open_metrics);
        assert!(seen.insert((sample.name.clone(), sample.labels.clone())), "twice: {line}");
        let may_have_exemplar = is_open_metrics && sample.name.ends_with("_bucket");
        assert!(sample.exemplar.is_none() || may_have_exemplar, "{line}");
        samples.push(sample);
    }
    check_histograms(&samples);
    samples
}

fn check_name(sample: &str, family: &str, kind: &str, is_open_metrics: bool) {
    let suffixes: &[&str] = match kind {
        "counter" if is_open_metrics => &["_total"],
        "histogram" => &["_bucket", "_sum", "_count"],
        _ => &[""],
    };
    let suffix = sample.strip_prefix(family).expect("the sample belongs to the family");
    assert!(suffixes.contains(&suffix), "{sample} in the {kind} {family}");
    assert!(kind != "counter" || sample.ends_with("_total"), "{sample}");
}

/// Checks that the counts of each histogram's buckets never decrease, and that the last one is the histogram's total.
fn check_histograms(samples: &[Sample]) {
    let mut buckets: BTreeMap<(String, Labels), Vec<(f64, f64)>> = BTreeMap::new();
    for sample in samples {
        if let Some(name) = sample.name.strip_suffix("_bucket") {
            let mut labels = sample.labels.clone();
            let le = labels.remove("le").expect("a bucket has a bound");
            let le = if le == "+Inf" { f64::INFINITY } else { number(&le) };
            if let Some((_, value, _)) = &sample.exemplar {
                assert!(*value <= le, "an exemplar belongs to its bucket");
            }
            buckets.entry((name.to_owned(), labels)).or_default().push((le, sample.value));
        }
    }
    for ((name, labels), buckets) in buckets {
        assert!(buckets.is_sorted_by(|one, next| one.0 < next.0 && one.1 <= next.1), "{name}: {buckets:?}");
        let (last, total) = *buckets.last().expect("a histogram has buckets");
        let count = samples.iter().find(|it| it.name == format!("{name}_count") && it.labels == labels);
        assert_eq!((last, Some(total)), (f64::INFINITY, count.map(|it| it.value)));
        assert!(samples.iter().any(|it| it.name == format!("{name}_sum") && it.labels == labels));
    }
}

fn parse_sample(line: &str) -> Sample {
    let end = line.find(['{', ' ']).expect("a name");
    let (name, rest) = line.split_at(end);
    assert!(is_name(name), "{line}");
    let (labels, rest) = if rest.starts_with('{') { parse_labels(rest) } else { (Labels::new(), rest) };
    let (value, exemplar) = match rest.split_once(" # ") {
        Some((value, exemplar)) => (value, Some(exemplar)),
        None => (rest, None),
    };
    let exemplar = exemplar.map(|text| {
        let (labels, rest) = parse_labels(text);
        let (value, time) = rest.trim_start().split_once(' ').expect("a value and a time");
        let characters: usize = labels.iter().map(|(name, value)| name.chars().count() + value.chars().count()).sum();
        assert!(characters <= 128, "{line}");
        (labels, number(value), number(time))
    });
    let value = value.strip_prefix(' ').expect("a space before the value");
    Sample { name: name.to_owned(), labels, value: number(value), exemplar }
}

/// Parses labels in braces, and returns the text after them.
fn parse_labels(text: &str) -> (Labels, &str) {
    let mut labels = Labels::new();
    let mut rest = text.strip_prefix('{').expect("a brace");
    loop {
        if let Some(rest) = rest.strip_prefix('}') {
            return (labels, rest);
        }
        let (name, value) = rest.split_once("=\"").expect("a label");
        assert!(is_name(name) && !name.contains(':'), "{text}");
        let (mut unescaped, mut characters) = (String::new(), value.char_indices());
        let end = loop {
            match characters.next().expect("a closing quote") {
                (at, '"') => break at,
                (_, '\\') => unescaped.push(match characters.next().expect("an escaped character").1 {
                    'n' => '\n',
                    other => {
                        assert!(matches!(other, '\\' | '"'), "{text}");
                        other
                    }
                }),
                (_, other) => unescaped.push(other),
            }
        };
        assert!(labels.insert(name.to_owned(), unescaped).is_none(), "twice: {name}");
        rest = &value[end + 1..];
        rest = rest.strip_prefix(',').unwrap_or(rest);
    }
}

fn is_name(text: &str) -> bool {
    let mut characters = text.chars();
    characters.next().is_some_and(|first| first.is_ascii_alphabetic() || matches!(first, '_' | ':'))
        && characters.all(|other| other.is_ascii_alphanumeric() || matches!(other, '_' | ':'))
}

fn number(text: &str) -> f64 {
    text.parse().unwrap_or_else(|_| panic!("`{text}` is not a number"))
}
