//! The shop's ads, which link to the shop's own products.

use boutique_types::Ad;

/// The ads, each as category, product ID and text.
const ADS: [(&str, &str, &str); 8] = [
    ("room", "0PUK6V6EV0", "Evenings are longer with an Ember lamp. Free bulb this week."),
    ("room", "LS4PSXUNUM", "A Sill Fern asks for little: one window, one Sunday."),
    ("desk", "1YMWWN1N4O", "Time, quietly: the Meridian clock does not tick."),
    ("kitchen", "9SIQT8TOJO", "Three Harbour Jars make a pantry."),
    ("kitchen", "6E92ZMYYFZ", "Your third-favourite mug is about to be replaced."),
    ("morning", "2ZYFJ3GM2N", "Pour slower, wake better: the Tern Kettle."),
    ("away", "66VCHSJNUP", "Carry it all, then fold it away: the Canvas Tote."),
    ("wear", "OLJCESPC7Z", "It is always noon somewhere: sunglasses from the workshop."),
];

/// Returns at most `count` ads. Ads of the given categories come first. `random` selects the first ad.
pub fn pick_ads(categories: &[String], count: usize, random: u64) -> Vec<Ad> {
    let (mut fitting, mut others): (Vec<_>, Vec<_>) =
        ADS.iter().partition(|(category, ..)| categories.iter().any(|wanted| wanted == category));
    for part in [&mut fitting, &mut others] {
        let length = part.len();
        if length > 0 {
            part.rotate_left((random % length as u64) as usize);
        }
    }
    fitting
        .into_iter()
        .chain(others)
        .take(count)
        .map(|(_, product_id, text)| Ad { text: (*text).into(), product_id: (*product_id).into() })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::product;

    #[test]
    fn every_ad_links_to_an_existing_product() {
        for (_, id, _) in ADS {
            assert!(product(id).is_some(), "{id}");
        }
    }

    #[test]
    fn ads_of_the_category_come_first() {
        for random in 0..5 {
            let ads = pick_ads(&["desk".into()], 2, random);
            assert_eq!(ads[0].product_id, "1YMWWN1N4O");
            assert_eq!(ads.len(), 2);
        }
    }

    #[test]
    fn the_random_number_selects_among_ads_of_a_category() {
        let first = |random| pick_ads(&["kitchen".into()], 1, random)[0].product_id.clone();
        assert_eq!((first(0), first(1), first(2)), ("9SIQT8TOJO".into(), "6E92ZMYYFZ".into(), "9SIQT8TOJO".into()));
    }

    #[test]
    fn at_most_all_ads_are_returned() {
        assert_eq!(pick_ads(&[], 100, u64::MAX).len(), ADS.len());
        assert!(pick_ads(&[], 0, 1).is_empty());
    }
}
