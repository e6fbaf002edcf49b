//! Maps the method and path of a request to a route.

/// The page or action that a request selects.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Route {
    Home,
    Product(String),
    Search,
    Cart,
    AddToCart,
    EmptyCart,
    Checkout,
    SetCurrency,
    Logout,
    Orders,
    Order(String),
    Static(String),
    Favicon,
    Robots,
    Health,
}

/// The reason why a request has no route.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum NoRoute {
    /// The path does not exist.
    UnknownPath,
    /// The path exists, but not with this method. Contains the value of the header `Allow`, which lists the methods.
    Method(&'static str),
    /// The method is `OPTIONS`. Contains the value of the header `Allow`.
    Options(&'static str),
}

const GET: &str = "GET, HEAD, OPTIONS";
const POST: &str = "POST, OPTIONS";
const GET_POST: &str = "GET, HEAD, POST, OPTIONS";

/// Returns the route of a method and a path. `HEAD` has the same routes as `GET`.
///
/// # Errors
/// If no route has this method and path, or if the method is `OPTIONS`.
pub(crate) fn route(method: &str, path: &str) -> Result<Route, NoRoute> {
    let parts: Vec<&str> = path.strip_prefix('/').ok_or(NoRoute::UnknownPath)?.split('/').collect();
    let (get, post, allow) = match parts.as_slice() {
        [""] => (Some(Route::Home), None, GET),
        ["product", id] if !id.is_empty() => (Some(Route::Product((*id).into())), None, GET),
        ["search"] => (Some(Route::Search), None, GET),
        ["cart"] => (Some(Route::Cart), Some(Route::AddToCart), GET_POST),
        ["cart", "empty"] => (None, Some(Route::EmptyCart), POST),
        ["cart", "checkout"] => (None, Some(Route::Checkout), POST),
        ["setCurrency"] => (None, Some(Route::SetCurrency), POST),
        ["logout"] => (Some(Route::Logout), None, GET),
        ["orders"] => (Some(Route::Orders), None, GET),
        ["orders", id] if !id.is_empty() => (Some(Route::Order((*id).into())), None, GET),
        ["static", rest @ ..] if !rest.is_empty() => (Some(Route::Static(rest.join("/"))), None, GET),
        ["favicon.ico"] => (Some(Route::Favicon), None, GET),
        ["robots.txt"] => (Some(Route::Robots), None, GET),
        ["_healthz"] => (Some(Route::Health), None, GET),
        _ => return Err(NoRoute::UnknownPath),
    };
    match method {
        "GET" | "HEAD" => get.ok_or(NoRoute::Method(allow)),
        "POST" => post.ok_or(NoRoute::Method(allow)),
        "OPTIONS" => Err(NoRoute::Options(allow)),
        _ => Err(NoRoute::Method(allow)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_have_their_methods() {
        assert_eq!(route("GET", "/"), Ok(Route::Home));
        assert_eq!(route("HEAD", "/cart"), Ok(Route::Cart));
        assert_eq!(route("POST", "/cart"), Ok(Route::AddToCart));
        assert_eq!(route("GET", "/product/6E92ZMYYFZ"), Ok(Route::Product("6E92ZMYYFZ".into())));
        assert_eq!(route("GET", "/static/products/a.svg"), Ok(Route::Static("products/a.svg".into())));
    }

    #[test]
    fn an_error_for_another_method_lists_the_allowed_ones() {
        assert_eq!(route("DELETE", "/cart"), Err(NoRoute::Method(GET_POST)));
        assert_eq!(route("GET", "/cart/checkout"), Err(NoRoute::Method(POST)));
        assert_eq!(route("POST", "/"), Err(NoRoute::Method(GET)));
        assert_eq!(route("OPTIONS", "/cart"), Err(NoRoute::Options(GET_POST)));
        assert_eq!(route("get", "/"), Err(NoRoute::Method(GET)), "methods are case-sensitive");
    }

    #[test]
    fn other_paths_are_unknown() {
        for path in
            ["", "*", "/nothing", "/product/", "/product/a/b", "/cart/", "//", "/static", "/orders/a/b", "/Cart"]
        {
            assert_eq!(route("GET", path), Err(NoRoute::UnknownPath), "{path}");
        }
    }
}
