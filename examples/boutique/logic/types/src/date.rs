//! Converts seconds since 1970 to calendar dates, in UTC.

const MONTHS: [&str; 12] = [
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
];

/// A time as a calendar date and the time of day, in UTC.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Date {
    /// The year, at least 1970.
    pub year: u64,
    /// The month, from 1 to 12.
    pub month: u64,
    /// The day of the month, from 1.
    pub day: u64,
    /// The hour, from 0 to 23.
    pub hour: u64,
    /// The minute, from 0 to 59.
    pub minute: u64,
}

impl Date {
    /// Converts seconds since 1970 to a date. In the calculation, years begin in March, so that the leap day is the
    /// last day of a year, and are grouped in eras of 400 years.
    pub fn from_seconds(seconds: u64) -> Self {
        let days = seconds / 86_400 + 719_468;
        let (era, day_of_era) = (days / 146_097, days % 146_097);
        let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
        let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
        let from_march = (5 * day_of_year + 2) / 153;
        let month = if from_march < 10 { from_march + 3 } else { from_march - 9 };
        Self {
            year: era * 400 + year_of_era + u64::from(month <= 2),
            month,
            day: day_of_year - (153 * from_march + 2) / 5 + 1,
            hour: seconds / 3_600 % 24,
            minute: seconds / 60 % 60,
        }
    }

    /// Renders the date as text: `21 November 2026, 08:15 UTC`.
    pub fn long(self) -> String {
        let month = MONTHS[usize::try_from(self.month - 1).expect("a month is small")];
        format!("{} {month} {}, {:02}:{:02} UTC", self.day, self.year, self.hour, self.minute)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_times_are_converted() {
        assert_eq!(Date::from_seconds(0).long(), "1 January 1970, 00:00 UTC");
        assert_eq!(Date::from_seconds(951_782_400).long(), "29 February 2000, 00:00 UTC");
        assert_eq!(Date::from_seconds(1_709_251_199).long(), "29 February 2024, 23:59 UTC");
        assert_eq!(Date::from_seconds(1_709_251_200).long(), "1 March 2024, 00:00 UTC");
        assert_eq!(Date::from_seconds(4_102_444_799).long(), "31 December 2099, 23:59 UTC");
    }
}
