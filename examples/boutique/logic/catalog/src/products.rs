//! The data of the shop's nine products.

use boutique_types::{Money, Product};

/// A product, with its price in US cents.
struct Entry {
    id: &'static str,
    name: &'static str,
    summary: &'static str,
    description: &'static str,
    picture: &'static str,
    cents: i64,
    categories: &'static [&'static str],
}

const ENTRIES: [Entry; 9] = [
    Entry {
        id: "OLJCESPC7Z",
        name: "Noon Sunglasses",
        summary: "Round amber lenses in a tortoise frame.",
        description: "Cut from cellulose acetate and polished for three days, with amber lenses that keep the warmth of an \
            afternoon and leave out its glare. Five-barrel hinges, a soft case, and screws that any optician knows.",
        picture: "noon-sunglasses.svg",
        cents: 4_950,
        categories: &["away", "wear"],
    },
    Entry {
        id: "66VCHSJNUP",
        name: "Fold Canvas Tote",
        summary: "Heavy cotton, long handles, one deep pocket.",
        description: "Eighteen-ounce cotton canvas with handles that go over a winter coat and a base that stands by itself. \
            It folds flat into its own pocket. Washes well and looks better for it.",
        picture: "fold-canvas-tote.svg",
        cents: 2_400,
        categories: &["away", "wear"],
    },
    Entry {
        id: "1YMWWN1N4O",
        name: "Meridian Wall Clock",
        summary: "A quiet clock with a sweeping hand.",
        description: "A dial that can be read from across the room and a movement that cannot be heard from a pillow. \
            Spun aluminium, glass front, one AA cell that lasts about two years.",
        picture: "meridian-wall-clock.svg",
        cents: 6_900,
        categories: &["room", "desk"],
    },
    Entry {
        id: "L9ECAV7KIM",
        name: "Larch Stool",
        summary: "Three legs, no screws, never wobbles.",
        description: "Turned from larch out of one valley and held together by wedges alone. Three legs stand still on any \
            floor. Seat, step, bedside table: it does not mind which.",
        picture: "larch-stool.svg",
        cents: 8_999,
        categories: &["room"],
    },
    Entry {
        id: "2ZYFJ3GM2N",
        name: "Tern Kettle",
        summary: "A slim spout for a slow, sure pour.",
        description: "A long neck gives you the last ten grams exactly where you want them. Enamelled steel, nine tenths of a \
            litre, for every kind of hob including induction.",
        picture: "tern-kettle.svg",
        cents: 5_450,
        categories: &["kitchen", "morning"],
    },
    Entry {
        id: "0PUK6V6EV0",
        name: "Ember Table Lamp",
        summary: "A warm pool of light for late pages.",
        description: "A steel shade on an oak foot, with a dimmer that remembers where you left it. The light is 2,200 kelvin at \
            its lowest: as near to a candle as a lamp may come.",
        picture: "ember-table-lamp.svg",
        cents: 11_800,
        categories: &["room", "desk"],
    },
    Entry {
        id: "LS4PSXUNUM",
        name: "Sill Fern",
        summary: "A fern that forgives, in a stoneware pot.",
        description: "It likes a north window and a drink on Sundays, and forgives you when you forget. Comes rooted in an unglazed \
            stoneware pot with its own saucer.",
        picture: "sill-fern.svg",
        cents: 3_150,
        categories: &["room"],
    },
    Entry {
        id: "9SIQT8TOJO",
        name: "Harbour Jar",
        summary: "Thick glass and a cork that fits.",
        description: "Pressed glass, thick at the foot, with a cork cut for its own jar. One and a half litres of flour, lentils or \
            shells from the beach.",
        picture: "harbour-jar.svg",
        cents: 1_850,
        categories: &["kitchen"],
    },
    Entry {
        id: "6E92ZMYYFZ",
        name: "Pebble Mug",
        summary: "Stoneware with a thumb-sized handle.",
        description: "Thrown by hand, glazed inside and bare outside, so that it is rough where you hold it and smooth where you \
            drink. Three hundred and twenty millilitres.",
        picture: "pebble-mug.svg",
        cents: 1_699,
        categories: &["kitchen", "morning"],
    },
];

/// Returns all products in the order in which the shop shows them.
pub fn all_products() -> Vec<Product> {
    ENTRIES.iter().map(Entry::to_product).collect()
}

/// Returns the product with the given ID, if there is one.
pub fn product(id: &str) -> Option<Product> {
    ENTRIES.iter().find(|entry| entry.id == id).map(Entry::to_product)
}

impl Entry {
    fn to_product(&self) -> Product {
        let nanos = i32::try_from(self.cents % 100 * 10_000_000).expect("cents are less than a unit");
        Product {
            id: self.id.into(),
            name: self.name.into(),
            summary: self.summary.into(),
            description: self.description.into(),
            picture: self.picture.into(),
            price: Money::new("USD", self.cents / 100, nanos),
            categories: self.categories.iter().map(|category| (*category).into()).collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn the_nine_ids_are_those_that_load_generators_request() {
        let ids: BTreeSet<_> = ENTRIES.iter().map(|entry| entry.id).collect();
        let expected = [
            "0PUK6V6EV0",
            "1YMWWN1N4O",
            "2ZYFJ3GM2N",
            "66VCHSJNUP",
            "6E92ZMYYFZ",
            "9SIQT8TOJO",
            "L9ECAV7KIM",
            "LS4PSXUNUM",
            "OLJCESPC7Z",
        ];
        assert_eq!(ids, BTreeSet::from(expected));
    }

    #[test]
    fn every_product_can_be_shown_and_sold() {
        for product in all_products() {
            assert!(product.price.is_positive(), "{}", product.id);
            assert!(!product.categories.is_empty(), "{}", product.id);
            assert!(product.picture.ends_with(".svg"), "{}", product.id);
            assert!(!product.description.contains("  "), "{}", product.id);
        }
    }

    #[test]
    fn a_product_is_found_by_its_exact_id() {
        assert_eq!(product("6E92ZMYYFZ").map(|product| product.price), Some(Money::new("USD", 16, 990_000_000)));
        assert_eq!(product("6e92zmyyfz"), None);
        assert_eq!(product(""), None);
    }
}
