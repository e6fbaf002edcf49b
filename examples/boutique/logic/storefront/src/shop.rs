//! Turns a request into a response: finds the route, calls its handler, and adds headers.

use crate::browse;
use crate::buy;
use crate::cookies;
use crate::failure::Failure;
use crate::http::{BodyError, Head, Response};
use crate::pages::Frame;
use crate::route::{NoRoute, Route, route};
use crate::services::Services;
use crate::visitor::Visitor;
use crate::{assets, forms};

/// The maximum size of a submitted form, in bytes.
pub const FORM_BYTES_MAX: usize = 16 * 1024;

/// The content security policy. It forbids scripts, other sites and frames, because the pages need none of them.
const CONTENT_SECURITY_POLICY: &str = "default-src 'none'; img-src 'self'; style-src 'self'; form-action 'self'; \
    base-uri 'none'; frame-ancestors 'none'";

/// Handles one request. `read_body` reads the body; its argument is the maximum size in bytes.
pub async fn handle<S: Services>(
    services: &S,
    head: &Head,
    read_body: impl AsyncFnOnce(usize) -> Result<Vec<u8>, BodyError>,
) -> Response {
    let response = match route(&head.method, head.path()) {
        Ok(Route::Health) => Response::text(200, "ok").with("cache-control", "no-store"),
        Ok(Route::Robots) => Response::text(200, "User-agent: *\nDisallow: /\n"),
        Ok(Route::Favicon) => assets::serve(head, "favicon.svg").unwrap_or_else(|| Response::text(404, "not found")),
        Ok(Route::Static(path)) => {
            assets::serve(head, &path).unwrap_or_else(|| Failure::UnknownPath.into_response(&Frame::plain()))
        }
        Err(NoRoute::Options(allow)) => {
            Response { status: 204, headers: vec![("allow", allow.into())], body: Default::default() }
        }
        Err(NoRoute::Method(allow)) => page_of_failure(services, head, Failure::Method(allow)),
        Err(NoRoute::UnknownPath) => page_of_failure(services, head, Failure::UnknownPath),
        Ok(route) => visit(services, head, route, read_body).await,
    };
    response
        .with("content-security-policy", CONTENT_SECURITY_POLICY)
        .with("x-content-type-options", "nosniff")
        .with("referrer-policy", "same-origin")
}

/// Handles a request to a route that depends on the visitor.
async fn visit<S: Services>(
    services: &S,
    head: &Head,
    route: Route,
    read_body: impl AsyncFnOnce(usize) -> Result<Vec<u8>, BodyError>,
) -> Response {
    let visitor = Visitor::of(head, services);
    let form = async || forms::read(head, read_body).await;
    let result = match route {
        Route::Home => browse::home(services, &visitor).await,
        Route::Product(id) => browse::product(services, &visitor, &id).await,
        Route::Search => browse::search(services, &visitor, head.query()).await,
        Route::Cart => buy::cart(services, &visitor).await,
        Route::AddToCart => match form().await {
            Ok(form) => buy::add_to_cart(services, &visitor, &form).await,
            Err(failure) => Err(failure),
        },
        Route::EmptyCart => buy::empty_cart(services, &visitor).await,
        Route::Checkout => match form().await {
            Ok(form) => buy::checkout(services, &visitor, &form).await,
            Err(failure) => Err(failure),
        },
        Route::SetCurrency => form().await.and_then(|form| set_currency(head, &visitor, &form)),
        Route::Orders => buy::orders(services, &visitor).await,
        Route::Order(id) => buy::order(services, &visitor, &id).await,
        Route::Logout => return log_out(head),
        Route::Static(_) | Route::Favicon | Route::Robots | Route::Health => Err(Failure::UnknownPath),
    };
    let response = result.unwrap_or_else(|failure| {
        if let Failure::Unavailable(reason) = &failure {
            services.log(&format!("{} {}: {reason}", head.method, head.path()));
        }
        failure.into_response(&Frame::of(&visitor, None))
    });
    visitor.greet(response)
}

fn page_of_failure(services: &impl Services, head: &Head, failure: Failure) -> Response {
    failure.into_response(&Frame::of(&Visitor::of(head, services), None))
}

fn set_currency(head: &Head, visitor: &Visitor, form: &forms::Form) -> Result<Response, Failure> {
    let code = form.required("currency_code")?;
    if !visitor.currencies.iter().any(|currency| currency.code == code) {
        let known: Vec<&str> = visitor.currencies.iter().map(|currency| currency.code.as_str()).collect();
        return Err(Failure::field(
            "currency_code",
            format!("We have no prices in “{code}”, only in {}.", known.join(", ")),
        ));
    }
    let back = head.header("referer").and_then(local_path).unwrap_or("/");
    Ok(Response::redirect(back).with("set-cookie", cookies::keep(cookies::CURRENCY, code, head.secure)))
}

fn log_out(head: &Head) -> Response {
    Response::redirect("/")
        .with("set-cookie", cookies::expire(cookies::SESSION, head.secure))
        .with("set-cookie", cookies::expire(cookies::CURRENCY, head.secure))
}

/// Returns the path and query of a URL, so that a redirect stays in the shop, whatever host the URL names. Returns
/// `None` if the path has no page, or only accepts `POST`.
fn local_path(url: &str) -> Option<&str> {
    let (_, rest) = url.split_once("://")?;
    let path = &rest[rest.find('/')?..];
    let path = path.split('#').next().unwrap_or(path);
    let is_plain = path.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'\\');
    let is_page = route("GET", path.split('?').next().unwrap_or(path)).is_ok();
    (is_plain && is_page).then_some(path)
}

#[cfg(test)]
mod tests {
    use super::local_path;

    #[test]
    fn redirects_stay_in_the_shop() {
        assert_eq!(local_path("http://127.0.0.1:8080/product/6E92ZMYYFZ?a=b#c"), Some("/product/6E92ZMYYFZ?a=b"));
        assert_eq!(local_path("https://shop.example/"), Some("/"));
        assert_eq!(local_path("https://evil.example//evil.example/"), None);
        assert_eq!(local_path("https://evil.example/\\evil.example"), None);
        assert_eq!(local_path("https://shop.example/a\r\nset-cookie: b"), None);
        assert_eq!(local_path("https://shop.example/cart/checkout"), None, "the path accepts only POST");
        assert_eq!(local_path("https://shop.example"), None);
        assert_eq!(local_path("javascript:alert(1)"), None);
    }
}
