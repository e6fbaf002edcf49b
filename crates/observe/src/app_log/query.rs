//! Queries of the admin API for lines of a log.

use futures::stream::{self, BoxStream, StreamExt as _};
use isomer_api::{LogLine, LogQuery};

use super::line::PLATFORM;
use super::log::AppLog;
use super::queue::AppLogError;

/// The number of lines in the response to a query that specifies no number.
const LINES_DEFAULT: u32 = 100;

/// The maximum number of lines in the response to a query. A query for the lines of one request, trace or level searches
/// only this number of lines at the end of the log.
const LINES_MAX: u32 = 10_000;

impl AppLog {
    /// Returns the lines that match `query`. Ignores the fields `access` and `tabs` of the query: the caller has used
    /// them to choose between the app's log, its access log, and the log of its tabs. Blocks while it reads files.
    ///
    /// # Errors
    /// If the log's files cannot be read, the log is closed, or the log has the maximum number of followers.
    pub fn query(&self, query: &LogQuery) -> Result<BoxStream<'static, LogLine>, AppLogError> {
        let wanted = query.lines.unwrap_or(LINES_DEFAULT).min(LINES_MAX) as usize;
        let (request, trace, level) = (query.request.clone(), query.trace.clone(), query.level);
        let is_filtered = request.is_some() || trace.is_some() || level.is_some();
        let read = if is_filtered { LINES_MAX as usize } else { wanted };
        // Messages of the platform have no level if an earlier version wrote them.
        let is_severe = move |line: &LogLine| {
            level.is_none_or(|level| line.level.map_or(line.stream == PLATFORM, |of_line| of_line >= level))
        };
        let is_wanted = move |line: &LogLine| {
            (request.is_none() || line.request == request)
                && (trace.is_none() || line.trace_id == trace)
                && is_severe(line)
        };
        let (mut last, next) = match query.follow {
            true => self.follow(read).map(|(last, next)| (last, Some(next)))?,
            false => (self.last(read)?, None),
        };
        last.retain(&is_wanted);
        last.drain(..last.len().saturating_sub(wanted));
        let next = next.map_or_else(|| stream::empty().boxed(), |next| next.boxed());
        let next = next.filter(move |line| std::future::ready(is_wanted(line)));
        Ok(stream::iter(last).chain(next).boxed())
    }
}
