//! `isomer advise`: advice about the shape of an app, from measured traffic.

use isomer_api::{AdviceItem, Confidence, ShapeAdvice};
use isomer_console::{CliError, Console, print};
use isomer_display::{count, escaped, escaped_json};

use crate::observed::app::ObservedFlags;
use crate::remote::node::client_error;

/// Show which components of an app are worth fusing, isolating or moving, from the traffic that was measured in the
/// current shape, with the evidence.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    #[command(flatten)]
    app: ObservedFlags,
}

pub(crate) fn run(arguments: &Arguments, console: &Console) -> Result<(), CliError> {
    arguments.app.with_app(console, async |app| {
        let advice = app.client.advice(&app.tenant, &app.name).await.map_err(client_error(console))?;
        if arguments.app.place.node.json {
            return print(&(escaped_json(&serde_json::to_string(&advice).expect("advice is plain data")) + "\n"));
        }
        print(&text_of(&advice))
    })
}

/// Returns the advice as text for people. Names come from the process, so they are escaped.
fn text_of(advice: &ShapeAdvice) -> String {
    let requests = count(advice.requests, "request");
    let mut text = match advice.request_us {
        Some(us) => format!("{requests}, {:.2} ms on average\n", us / 1000.0),
        None => format!("{requests}\n"),
    };
    if advice.items.is_empty() {
        // If something could not be judged, the notes state the reason.
        let has_notes = !advice.notes.is_empty();
        text.push_str(if has_notes { "no advice\n" } else { "no advice: the measurements support no change\n" });
    }
    for AdviceItem { summary, evidence, confidence, .. } in &advice.items {
        let confidence = match confidence {
            Confidence::High => "high confidence",
            Confidence::Low => "low confidence: few samples",
        };
        text.push_str(&format!("\n{} ({confidence})\n", escaped(summary)));
        for line in evidence {
            text.push_str(&format!("  - {}\n", escaped(line)));
        }
    }
    if !advice.notes.is_empty() {
        text.push('\n');
    }
    for note in &advice.notes {
        text.push_str(&format!("note: {}\n", escaped(note)));
    }
    text
}

#[cfg(test)]
mod tests {
    use isomer_api::AdviceKind;

    use super::*;

    #[test]
    fn advice_is_printed_with_its_evidence() {
        let item = AdviceItem {
            kind: AdviceKind::Fuse,
            component: "cart".to_owned(),
            caller: Some("front".to_owned()),
            summary: "Fuse `cart` with `front`.".to_owned(),
            cost_us_per_request: -190.0,
            evidence: vec!["2.00 remote calls per request.\u{1b}[2J".to_owned()],
            confidence: Confidence::Low,
        };
        let advice = ShapeAdvice {
            requests: 1200,
            request_us: Some(2500.0),
            items: vec![item],
            notes: vec!["No advice about the seam from `front` to `mail`.".to_owned()],
        };
        let text = text_of(&advice);
        assert!(
            text.starts_with("1200 requests, 2.50 ms on average\n\nFuse `cart` with `front`. (low confidence"),
            "{text}"
        );
        assert!(!text.contains('\u{1b}') && text.ends_with("note: No advice about the seam from `front` to `mail`.\n"));
        let none = text_of(&ShapeAdvice { requests: 3, ..ShapeAdvice::default() });
        assert!(none.contains("no advice") && none.starts_with("3 requests\n"), "{none}");
    }
}
