//! The flag that determines which requests are traced, and switches the recording of traces and metrics off.

use isomer_telemetry::{SamplingLimits, SamplingPolicy};

/// The flag of commands that serve apps.
#[derive(Debug, Clone, clap::Args)]
pub struct TelemetryFlag {
    /// Which requests are traced in full: `on` (all requests of `isomer run` and `dev`, 1 % of those of a node or a shipped
    /// program, with a limit per second), or a fraction from 0 to 1, without a limit. With `off`, neither traces nor metrics
    /// of requests are recorded. Logs are written in any case.
    #[arg(long, value_name = "MODE", value_parser = parse, default_value = "on")]
    telemetry: TelemetryMode,
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum TelemetryMode {
    On,
    Off,
    /// The fraction of the requests that are sampled.
    Sampled(f64),
}

impl TelemetryFlag {
    /// Returns which requests are traced; `None` if neither traces nor metrics are recorded. `default` is the command's
    /// policy for the mode `on`.
    pub fn sampling(&self, default: SamplingPolicy) -> Option<SamplingPolicy> {
        match self.telemetry {
            TelemetryMode::On => Some(default),
            TelemetryMode::Off => None,
            TelemetryMode::Sampled(ratio) => Some(SamplingPolicy { ratio, per_second_max: u32::MAX, ..default }),
        }
    }

    /// Returns which requests of a node's apps are traced; `None` if neither traces nor metrics are recorded. `limits`
    /// are those of the node file.
    pub fn limits(&self, limits: SamplingLimits) -> Option<SamplingLimits> {
        match self.telemetry {
            TelemetryMode::On => Some(limits),
            TelemetryMode::Off | TelemetryMode::Sampled(_) => {
                self.sampling(limits.default).map(SamplingLimits::of_policy)
            }
        }
    }
}

fn parse(text: &str) -> Result<TelemetryMode, String> {
    match text {
        "on" => Ok(TelemetryMode::On),
        "off" => Ok(TelemetryMode::Off),
        fraction => {
            let ratio = fraction.parse().ok().filter(|ratio| (0.0..=1.0).contains(ratio));
            ratio.map(TelemetryMode::Sampled).ok_or_else(|| "write `on`, `off` or a number from 0 to 1".to_owned())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modes_are_parsed() {
        let policy = |text| parse(text).map(|telemetry| TelemetryFlag { telemetry }.sampling(SamplingPolicy::NODE));
        assert_eq!(policy("on"), Ok(Some(SamplingPolicy::NODE)));
        assert_eq!(policy("off"), Ok(None));
        let sampled = SamplingPolicy { ratio: 0.25, per_second_max: u32::MAX, ..SamplingPolicy::NODE };
        assert_eq!(policy("0.25"), Ok(Some(sampled)));
        assert!(["2", "-1", "NaN", "1%", ""].into_iter().all(|text| policy(text).is_err()));
    }
}
