//! The style sheet and pictures, which are compiled into the program.

use crate::http::{Head, Response};

/// The version of the assets. It is part of their URLs, so that browsers can cache an asset for a year.
pub(crate) const VERSION: &str = env!("ASSETS_VERSION");

const SVG: &str = "image/svg+xml";

/// The assets, each as path below `/static/`, content type and bytes.
const ASSETS: &[(&str, &str, &[u8])] = &[
    ("shop.css", "text/css; charset=utf-8", include_bytes!("../assets/shop.css")),
    ("logo.svg", SVG, include_bytes!("../assets/logo.svg")),
    ("favicon.svg", SVG, include_bytes!("../assets/favicon.svg")),
    ("hero.svg", SVG, include_bytes!("../assets/hero.svg")),
    ("products/ember-table-lamp.svg", SVG, include_bytes!("../assets/products/ember-table-lamp.svg")),
    ("products/fold-canvas-tote.svg", SVG, include_bytes!("../assets/products/fold-canvas-tote.svg")),
    ("products/harbour-jar.svg", SVG, include_bytes!("../assets/products/harbour-jar.svg")),
    ("products/larch-stool.svg", SVG, include_bytes!("../assets/products/larch-stool.svg")),
    ("products/meridian-wall-clock.svg", SVG, include_bytes!("../assets/products/meridian-wall-clock.svg")),
    ("products/noon-sunglasses.svg", SVG, include_bytes!("../assets/products/noon-sunglasses.svg")),
    ("products/pebble-mug.svg", SVG, include_bytes!("../assets/products/pebble-mug.svg")),
    ("products/sill-fern.svg", SVG, include_bytes!("../assets/products/sill-fern.svg")),
    ("products/tern-kettle.svg", SVG, include_bytes!("../assets/products/tern-kettle.svg")),
];

/// Returns the URL of an asset, with the version.
pub(crate) fn url(path: &str) -> String {
    format!("/static/{path}?v={VERSION}")
}

/// Returns the response for an asset: its bytes, or `304` if the browser has cached them. Returns `None` for an unknown
/// path.
pub(crate) fn serve(head: &Head, path: &str) -> Option<Response> {
    let (_, content_type, bytes) = ASSETS.iter().find(|(other, ..)| *other == path)?;
    let tag = format!("\"{VERSION}\"");
    let known = head.header("if-none-match").is_some_and(|tags| {
        tags.split(',').map(|tag| tag.trim().trim_start_matches("W/")).any(|other| other == "*" || other == tag)
    });
    // A URL without the version may return different bytes later, so browsers must not cache the response for long.
    let keep = if head.query() == format!("v={VERSION}") {
        "public, max-age=31536000, immutable"
    } else {
        "public, max-age=300"
    };
    let response =
        if known { Response::new(304, content_type, &[][..]) } else { Response::new(200, content_type, *bytes) };
    Some(response.with("etag", tag).with("cache-control", keep))
}
