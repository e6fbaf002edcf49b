//! Messages that a collector sends.

/// The body of a successful response. The messages of the three signals have the same field numbers.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub(crate) struct ExportResponse {
    #[prost(message, optional, tag = "1")]
    pub(crate) partial_success: Option<PartialSuccess>,
}

/// Which part of a request the collector did not accept.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub(crate) struct PartialSuccess {
    /// The number of spans, log records or data points that were not accepted.
    #[prost(int64, tag = "1")]
    pub(crate) rejected: i64,
    /// The reason why items were rejected, or a warning if everything was accepted.
    #[prost(string, tag = "2")]
    pub(crate) message: String,
}

/// The body of an error response: `google.rpc.Status`.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub(crate) struct RpcStatus {
    #[prost(string, tag = "2")]
    pub(crate) message: String,
}
