//! Formats numbers of bytes for messages: `128 MiB`, `97.4 KiB`, `12 B`.

use std::fmt;

/// The names and sizes of the units, largest first.
const UNITS: [(&str, u64); 4] = [("TiB", 1 << 40), ("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)];

/// A number of bytes. Displayed in the largest unit that is not larger than the number: without decimals if the number
/// is a multiple of the unit, otherwise with one decimal, rounded down.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Size(pub u64);

/// Returns a number of bytes for display.
pub fn size(bytes: impl Into<Size>) -> Size {
    bytes.into()
}

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(bytes) = *self;
        let shown = match UNITS.into_iter().find(|(_, unit)| bytes >= *unit) {
            Some((name, unit)) if bytes.is_multiple_of(unit) => format!("{} {name}", bytes / unit),
            Some((name, unit)) => format!("{}.{} {name}", bytes / unit, bytes % unit * 10 / unit),
            None => format!("{bytes} B"),
        };
        // `pad` applies the width and alignment of the caller's format.
        f.pad(&shown)
    }
}

impl From<u64> for Size {
    fn from(bytes: u64) -> Self {
        Self(bytes)
    }
}

impl From<&u64> for Size {
    fn from(bytes: &u64) -> Self {
        Self(*bytes)
    }
}

impl From<u32> for Size {
    fn from(bytes: u32) -> Self {
        Self(bytes.into())
    }
}

impl From<usize> for Size {
    fn from(bytes: usize) -> Self {
        Self(bytes as u64)
    }
}

impl From<&usize> for Size {
    fn from(bytes: &usize) -> Self {
        Self(*bytes as u64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_size_has_the_largest_unit_that_fits() {
        for (bytes, shown) in [
            (0, "0 B"),
            (1, "1 B"),
            (1023, "1023 B"),
            (1024, "1 KiB"),
            (1025, "1.0 KiB"),
            (1536, "1.5 KiB"),
            ((1 << 20) - 1, "1023.9 KiB"),
            (134_217_728, "128 MiB"),
            (134_217_729, "128.0 MiB"),
            (1_610_612_736, "1.5 GiB"),
            (3 << 40, "3 TiB"),
            (u64::MAX, "16777215.9 TiB"),
        ] {
            assert_eq!(size(bytes).to_string(), shown);
        }
    }

    #[test]
    fn a_size_can_be_aligned() {
        assert_eq!(format!("{:>9}|", size(2048_usize)), "    2 KiB|");
    }
}
