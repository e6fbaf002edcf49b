-- Orders and their lines. Amounts are units and nanos of the order's currency. Of a card, only its brand and last digits are kept.
CREATE TABLE orders (
    id TEXT PRIMARY KEY NOT NULL,
    session_id TEXT NOT NULL,
    placed_at INTEGER NOT NULL,
    status TEXT NOT NULL CHECK (status IN ('pending', 'paid', 'cancelled')),
    email TEXT NOT NULL,
    street TEXT NOT NULL,
    city TEXT NOT NULL,
    state TEXT,
    zip_code TEXT NOT NULL,
    country TEXT NOT NULL,
    currency_code TEXT NOT NULL,
    shipping_units INTEGER NOT NULL,
    shipping_nanos INTEGER NOT NULL,
    total_units INTEGER NOT NULL,
    total_nanos INTEGER NOT NULL,
    transaction_id TEXT,
    card_brand TEXT,
    card_last_four TEXT,
    tracking_id TEXT
) STRICT;

CREATE TABLE order_lines (
    order_id TEXT NOT NULL REFERENCES orders (id),
    position INTEGER NOT NULL,
    product_id TEXT NOT NULL,
    name TEXT NOT NULL,
    quantity INTEGER NOT NULL CHECK (quantity > 0),
    unit_price_units INTEGER NOT NULL,
    unit_price_nanos INTEGER NOT NULL,
    PRIMARY KEY (order_id, position)
) STRICT, WITHOUT ROWID;
