//! The machines for which code of shipped apps is compiled.

use std::fmt;

/// The kind of machine that code is compiled for. Code for the machine that compiles it would need all instructions of
/// that machine's processor; shipped code needs only those of its target.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CodeTarget {
    /// 64-bit x86 processors from 2009 on: `x86-64-v2`, with SSE 4.2 and POPCNT.
    X86_64V2,
    /// 64-bit x86 processors from 2013 on: `x86-64-v3`, with AVX2, BMI and FMA.
    X86_64V3,
    /// 64-bit ARM processors.
    Aarch64,
}

#[cfg(feature = "compiler")]
const X86_64_V2: [&str; 6] = ["has_sse3", "has_ssse3", "has_sse41", "has_sse42", "has_popcnt", "has_cmpxchg16b"];

#[cfg(feature = "compiler")]
const X86_64_V3: [&str; 12] = [
    "has_sse3",
    "has_ssse3",
    "has_sse41",
    "has_sse42",
    "has_popcnt",
    "has_cmpxchg16b",
    "has_avx",
    "has_avx2",
    "has_bmi1",
    "has_bmi2",
    "has_fma",
    "has_lzcnt",
];

impl CodeTarget {
    /// Returns the target triple.
    #[must_use]
    pub fn triple(self) -> &'static str {
        match self {
            Self::X86_64V2 | Self::X86_64V3 => "x86_64-unknown-linux-gnu",
            Self::Aarch64 => "aarch64-unknown-linux-gnu",
        }
    }

    /// Returns the compiler's settings that permit the instructions of the target.
    #[cfg(feature = "compiler")]
    pub(super) fn flags(self) -> &'static [&'static str] {
        match self {
            Self::X86_64V2 => &X86_64_V2,
            Self::X86_64V3 => &X86_64_V3,
            Self::Aarch64 => &[],
        }
    }
}

impl fmt::Display for CodeTarget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::X86_64V2 => "x86-64-v2",
            Self::X86_64V3 => "x86-64-v3",
            Self::Aarch64 => "aarch64",
        })
    }
}
