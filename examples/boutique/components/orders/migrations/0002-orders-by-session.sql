-- A visitor's orders, newest first.
CREATE INDEX orders_by_session ON orders (session_id, placed_at DESC);
