//! Which requests are traced according to an app's own settings, within the limits of the node that runs the app.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::SamplingPolicy;

/// The settings of one app. A setting that is absent has the default of the process that runs the app.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct AppSampling {
    /// The fraction of the requests that are sampled, from 0 to 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ratio: Option<f64>,
    /// The maximum number of requests that are sampled in a second because of `ratio`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub per_second_max: Option<u32>,
    /// The duration from which a request that is not sampled is kept as slow.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub slow: Option<Duration>,
}

/// The sampling of apps without settings, and the limits for the settings of apps.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct SamplingLimits {
    /// The policy for apps without settings.
    pub default: SamplingPolicy,
    /// The maximum fraction of the requests of an app that are sampled.
    pub ratio_max: f64,
    /// The maximum number of requests of an app that are sampled in a second.
    pub per_second_max: u32,
    /// The minimum duration from which a request is kept as slow. Slow requests are not limited in another way, so an
    /// app with a short duration would store all its requests.
    pub slow_min: Duration,
}

impl SamplingLimits {
    /// The limits of a node: an app can sample all its requests, up to 50 a second, and keeps requests as slow from
    /// 100 ms on.
    pub const NODE: Self = Self {
        default: SamplingPolicy::NODE,
        ratio_max: 1.0,
        per_second_max: SamplingPolicy::NODE.per_second_max,
        slow_min: Duration::from_millis(100),
    };

    /// Returns limits with which all apps have `policy`, except that an app can choose to sample fewer requests.
    pub fn of_policy(policy: SamplingPolicy) -> Self {
        Self {
            default: policy,
            ratio_max: policy.ratio,
            per_second_max: policy.per_second_max,
            slow_min: policy.slow.min(Self::NODE.slow_min),
        }
    }

    /// Returns the policy for an app with the settings `app`.
    pub fn policy(&self, app: &AppSampling) -> SamplingPolicy {
        let SamplingPolicy { ratio, per_second_max, slow } = app.policy(self.default);
        SamplingPolicy {
            ratio: ratio.min(self.ratio_max),
            per_second_max: per_second_max.min(self.per_second_max),
            slow: slow.max(self.slow_min),
        }
    }
}

impl AppSampling {
    /// Returns the policy for the app if nothing limits its settings. Settings that are absent have the values of
    /// `default`.
    pub fn policy(&self, default: SamplingPolicy) -> SamplingPolicy {
        SamplingPolicy {
            ratio: self.ratio.unwrap_or(default.ratio),
            per_second_max: self.per_second_max.unwrap_or(default.per_second_max),
            slow: self.slow.unwrap_or(default.slow),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_limits_of_a_node_apply_to_the_settings_of_an_app() {
        let limits = SamplingLimits { ratio_max: 0.5, ..SamplingLimits::NODE };
        assert_eq!(limits.policy(&AppSampling::default()), SamplingPolicy::NODE);
        let greedy =
            AppSampling { ratio: Some(1.0), per_second_max: Some(u32::MAX), slow: Some(Duration::from_millis(1)) };
        let expected = SamplingPolicy { ratio: 0.5, per_second_max: 50, slow: Duration::from_millis(100) };
        assert_eq!(limits.policy(&greedy), expected);
        let modest = AppSampling { ratio: Some(0.001), per_second_max: Some(1), slow: Some(Duration::from_secs(9)) };
        let expected = SamplingPolicy { ratio: 0.001, per_second_max: 1, slow: Duration::from_secs(9) };
        assert_eq!((limits.policy(&modest), modest.policy(SamplingPolicy::LOCAL)), (expected, expected));
        assert_eq!(greedy.policy(SamplingPolicy::LOCAL).slow, Duration::from_millis(1));
    }

    #[test]
    fn a_policy_of_the_command_line_is_the_maximum() {
        let policy = SamplingPolicy { ratio: 0.25, per_second_max: u32::MAX, ..SamplingPolicy::NODE };
        let limits = SamplingLimits::of_policy(policy);
        assert_eq!(limits.policy(&AppSampling::default()), policy);
        assert_eq!(limits.policy(&AppSampling { ratio: Some(1.0), ..AppSampling::default() }), policy);
    }
}
