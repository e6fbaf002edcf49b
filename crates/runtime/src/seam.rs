//! The functions that are called across seams: their names in messages and in spans.

use std::fmt;
use std::sync::Arc;

use isomer_telemetry::{SpanKind, SpanTemplate, semantics};

/// A function that one component calls in another one. Displayed as `checkout → payment, boutique:shop/payment.charge`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SeamFunction {
    /// The calling component.
    pub caller: Arc<str>,
    /// The called component.
    pub callee: Arc<str>,
    /// The interface of the function, without its version.
    pub interface: Arc<str>,
    /// The name of the function.
    pub function: Arc<str>,
}

impl fmt::Display for SeamFunction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { caller, callee, interface, function } = self;
        write!(f, "{caller} → {callee}, {interface}.{function}")
    }
}

impl SeamFunction {
    /// Returns the template for the spans that the caller records when it calls this function. `mode` is the mode of
    /// the seam.
    pub(crate) fn caller_span(&self, mode: &'static str) -> SpanTemplate {
        span(SpanKind::Client, &self.callee, &self.interface, &self.function)
            .component(&self.caller)
            .with(semantics::CALLER, &self.caller)
            .with(semantics::MODE, mode)
    }
}

/// Returns the template for the spans that the callee records when a function is called.
pub(crate) fn callee_span(callee: &Arc<str>, interface: &Arc<str>, function: &Arc<str>) -> SpanTemplate {
    span(SpanKind::Server, callee, interface, function).component(callee)
}

/// Returns the template for the spans that are recorded when a function is called inside of a composition. `caller` is
/// empty if the calling component is not known.
pub(crate) fn fused_span(
    caller: &Arc<str>,
    callee: &Arc<str>,
    interface: &Arc<str>,
    function: &Arc<str>,
) -> SpanTemplate {
    let span = span(SpanKind::Internal, callee, interface, function).component(callee).with(semantics::MODE, "fused");
    if caller.is_empty() { span } else { span.with(semantics::CALLER, caller) }
}

fn span(kind: SpanKind, callee: &Arc<str>, interface: &Arc<str>, function: &Arc<str>) -> SpanTemplate {
    SpanTemplate::new(format!("{interface}.{function}"), kind)
        .with(semantics::RPC_SYSTEM, "isomer")
        .with(semantics::RPC_SERVICE, interface)
        .with(semantics::RPC_METHOD, function)
        .with(semantics::CALLEE, callee)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_function_is_displayed_with_both_components() {
        let seam = SeamFunction {
            caller: "checkout".into(),
            callee: "payment".into(),
            interface: "boutique:shop/payment".into(),
            function: "charge".into(),
        };
        assert_eq!(seam.to_string(), "checkout → payment, boutique:shop/payment.charge");
    }
}
