//! The cart component: keeps one cart per session in the key-value store `carts`, and changes a cart by
//! compare-and-swap.

use boutique_types::{CartError, CartItem};

// Generated bindings are not documented, and not linted.
#[allow(missing_docs, unreachable_pub, clippy::all)]
mod bindings {
    wit_bindgen::generate!({
        path: "../../wit",
        world: "cart-component",
        with: { "boutique:shop/types@0.1.0": boutique_types },
        generate_all,
    });
}

use bindings::wasi::keyvalue::atomics::{self, Cas, CasError};
use bindings::wasi::keyvalue::store::{self, Bucket, Error};

/// The name of the store, which the manifest grants to this component.
const STORE: &str = "carts";
/// The maximum number of attempts to change a cart that other requests change at the same time. More failed attempts
/// indicate a defect.
const ATTEMPTS_MAX: usize = 32;

struct Cart;

impl bindings::exports::boutique::shop::cart::Guest for Cart {
    async fn get_cart(session_id: String) -> Result<Vec<CartItem>, CartError> {
        let stored = open()?.get(&session_id).map_err(unavailable)?;
        stored.map_or_else(|| Ok(Vec::new()), |bytes| boutique_cart::decode(&bytes))
    }

    async fn add_item(session_id: String, item: CartItem) -> Result<(), CartError> {
        let bucket = open()?;
        for _ in 0..ATTEMPTS_MAX {
            let cas = Cas::new(&bucket, &session_id).map_err(unavailable)?;
            let stored = cas.current().map_err(unavailable)?;
            let mut items = stored.map_or_else(|| Ok(Vec::new()), |bytes| boutique_cart::decode(&bytes))?;
            boutique_cart::add(&mut items, item.clone())?;
            match atomics::swap(cas, &boutique_cart::encode(&items)) {
                Ok(()) => return Ok(()),
                Err(CasError::CasFailed(_)) => {}
                Err(CasError::StoreError(error)) => return Err(unavailable(error)),
            }
        }
        Err(CartError::Unavailable("too many requests change the cart at the same time".into()))
    }

    async fn empty_cart(session_id: String) -> Result<(), CartError> {
        open()?.delete(&session_id).map_err(unavailable)
    }
}

fn open() -> Result<Bucket, CartError> {
    store::open(STORE).map_err(unavailable)
}

fn unavailable(error: Error) -> CartError {
    CartError::Unavailable(match error {
        Error::NoSuchStore => format!("there is no key-value store `{STORE}`"),
        Error::AccessDenied => format!("the cart has no grant for the key-value store `{STORE}`"),
        Error::Other(reason) => reason,
    })
}

bindings::export!(Cart with_types_in bindings);
