//! The description of the calls to make, which is passed in the query of a request.

use std::fmt;

/// The function that is called.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum What {
    /// `add(u32, u32) -> u32`.
    Add,
    /// `echo(list<u8>) -> list<u8>`.
    Echo,
    /// `lookup(string) -> result<item, string>`.
    Lookup,
    /// `all(u32) -> list<item>`.
    All,
}

/// Whether a function blocks its caller.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// A function that blocks its caller until it returns.
    Sync,
    /// An `async func` of WASI 0.3.
    Async,
}

/// A number of calls of one function.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Work {
    /// The function to call.
    pub what: What,
    /// Whether the function blocks its caller.
    pub mode: Mode,
    /// The total number of calls.
    pub calls: u32,
    /// For `echo`, the number of bytes; for `all`, the number of items. The other functions ignore it.
    pub size: u32,
    /// The maximum number of calls in flight; 1 for blocking functions.
    pub concurrency: u32,
}

impl Work {
    /// The maximum of [`Work::size`]. In addition, a seam limits the size of each call.
    pub const SIZE_MAX: u32 = 8 << 20;
    /// The maximum number of concurrent calls.
    pub const CONCURRENCY_MAX: u32 = 1024;

    /// Parses a query in the format that `Display` writes: `what=…&mode=…&n=…&size=…&concurrency=…`.
    ///
    /// # Errors
    /// If a key or a value is invalid. The error is a message to show to the user.
    pub fn parse(query: &str) -> Result<Self, String> {
        let mut work = Self { what: What::Add, mode: Mode::Sync, calls: 1, size: 0, concurrency: 1 };
        for pair in query.split('&').filter(|pair| !pair.is_empty()) {
            let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
            let number = || value.parse::<u32>().map_err(|error| format!("`{pair}`: {error}"));
            match key {
                "what" => work.what = What::named(value)?,
                "mode" => work.mode = Mode::named(value)?,
                "n" => work.calls = number()?,
                "size" => work.size = number()?,
                "concurrency" => work.concurrency = number()?,
                _ => return Err(format!("unknown key `{key}`")),
            }
        }
        if work.size > Self::SIZE_MAX {
            return Err(format!("`size` must be at most {}", Self::SIZE_MAX));
        }
        if work.concurrency == 0 || work.concurrency > Self::CONCURRENCY_MAX {
            return Err(format!("`concurrency` must be 1 to {}", Self::CONCURRENCY_MAX));
        }
        if work.mode == Mode::Sync && work.concurrency > 1 {
            return Err("functions that block are called one at a time: use `mode=async`".to_owned());
        }
        Ok(work)
    }
}

impl fmt::Display for Work {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { what, mode, calls, size, concurrency } = self;
        write!(f, "what={what}&mode={mode}&n={calls}&size={size}&concurrency={concurrency}")
    }
}

impl What {
    fn named(name: &str) -> Result<Self, String> {
        [Self::Add, Self::Echo, Self::Lookup, Self::All]
            .into_iter()
            .find(|what| what.to_string() == name)
            .ok_or_else(|| format!("unknown function `{name}`"))
    }
}

impl fmt::Display for What {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Add => "add",
            Self::Echo => "echo",
            Self::Lookup => "lookup",
            Self::All => "all",
        })
    }
}

impl Mode {
    fn named(name: &str) -> Result<Self, String> {
        match name {
            "sync" => Ok(Self::Sync),
            "async" => Ok(Self::Async),
            _ => Err(format!("`{name}` is neither `sync` nor `async`")),
        }
    }
}

impl fmt::Display for Mode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Sync => "sync",
            Self::Async => "async",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_written_query_can_be_parsed() {
        for what in [What::Add, What::Echo, What::Lookup, What::All] {
            let work = Work { what, mode: Mode::Async, calls: 7, size: 1024, concurrency: 16 };
            assert_eq!(Work::parse(&work.to_string()), Ok(work));
        }
    }

    #[test]
    fn invalid_queries_are_refused() {
        for query in ["what=sub", "mode=later", "n=many", "size=9000000", "concurrency=0", "concurrency=2", "x=1"] {
            assert!(Work::parse(query).is_err(), "{query}");
        }
    }
}
