-- Visitors of the shop: the steps and weights of the public demo's load generator, in a fixed order.
--
-- Each thread has its own visitors and performs one step of each visitor in turn. There are more visitors than connections, so a
-- visitor's step has finished before the visitor's next step starts: for example, a cart is filled before it is checked out.
local VISITORS = 64
local PRODUCTS = {
    "0PUK6V6EV0", "1YMWWN1N4O", "2ZYFJ3GM2N", "66VCHSJNUP", "6E92ZMYYFZ", "9SIQT8TOJO", "L9ECAV7KIM", "LS4PSXUNUM", "OLJCESPC7Z",
}
local CURRENCIES = { "EUR", "USD", "JPY", "CAD" }
local STEPS = {
    "home", "look", "look", "currency", "look", "look", "add", "cart", "look", "look", "look", "currency", "look", "add", "cart",
    "look", "look", "cart", "checkout",
}
local CHECKOUT = "email=someone%40example.com&street_address=1600+Amphitheatre+Parkway&zip_code=94043&city=Mountain+View"
    .. "&state=CA&country=United+States&credit_card_number=4432-8015-6152-0454&credit_card_expiration_month=1"
    .. "&credit_card_expiration_year=2039&credit_card_cvv=672"

local threads = 0
function setup(thread)
    thread:set("number", threads)
    threads = threads + 1
end

local sent = 0
local function form(path, body, cookie)
    return wrk.format("POST", path, { ["Cookie"] = cookie, ["Content-Type"] = "application/x-www-form-urlencoded" }, body)
end

function request()
    local visitor = sent % VISITORS
    local turn = math.floor(sent / VISITORS)
    local step = STEPS[turn % #STEPS + 1]
    local product = PRODUCTS[(turn + visitor) % #PRODUCTS + 1]
    local cookie = string.format("shop_session-id=%016x%016x", number + 1, visitor + 1)
    sent = sent + 1
    if step == "home" then return wrk.format("GET", "/", { ["Cookie"] = cookie }) end
    if step == "look" then return wrk.format("GET", "/product/" .. product, { ["Cookie"] = cookie }) end
    if step == "cart" then return wrk.format("GET", "/cart", { ["Cookie"] = cookie }) end
    if step == "add" then return form("/cart", "product_id=" .. product .. "&quantity=" .. (turn % 5 + 1), cookie) end
    if step == "currency" then return form("/setCurrency", "currency_code=" .. CURRENCIES[turn % #CURRENCIES + 1], cookie) end
    return form("/cart/checkout", CHECKOUT, cookie)
end
