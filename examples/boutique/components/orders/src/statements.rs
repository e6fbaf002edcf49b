//! All SQL statements of the orders component.

pub(crate) const INSERT_ORDER: &str = "\
    INSERT INTO orders (id, session_id, placed_at, status, email, street, city, state, zip_code, country, currency_code, \
        shipping_units, shipping_nanos, total_units, total_nanos) \
    VALUES (?1, ?2, ?3, 'pending', ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14)";

pub(crate) const INSERT_LINE: &str = "\
    INSERT INTO order_lines (order_id, position, product_id, name, quantity, unit_price_units, unit_price_nanos) \
    VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)";

pub(crate) const COMPLETE_ORDER: &str = "\
    UPDATE orders SET status = 'paid', transaction_id = ?2, card_brand = ?3, card_last_four = ?4, tracking_id = ?5 \
    WHERE id = ?1 AND status = 'pending'";

pub(crate) const CANCEL_ORDER: &str = "UPDATE orders SET status = 'cancelled' WHERE id = ?1 AND status = 'pending'";

pub(crate) const SELECT_ORDER: &str = "\
    SELECT id, placed_at, status, email, street, city, state, zip_code, country, currency_code, \
        shipping_units, shipping_nanos, total_units, total_nanos, transaction_id, card_brand, card_last_four, tracking_id \
    FROM orders WHERE id = ?1 AND session_id = ?2";

pub(crate) const SELECT_LINES: &str = "\
    SELECT product_id, name, quantity, unit_price_units, unit_price_nanos \
    FROM order_lines WHERE order_id = ?1 ORDER BY position";

pub(crate) const LIST_ORDERS: &str = "\
    SELECT id, placed_at, status, currency_code, total_units, total_nanos, \
        (SELECT sum(quantity) FROM order_lines WHERE order_id = orders.id) \
    FROM orders WHERE session_id = ?1 AND status <> 'cancelled' \
    ORDER BY placed_at DESC, id LIMIT ?2";
