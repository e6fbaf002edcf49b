//! Recommends products that share categories with given products.

use boutique_types::Product;

/// Returns at most `count` products of `all`, without those in `product_ids`. Products that share more categories with
/// the products in `product_ids` come first. Among products that share the same number of categories, the order depends
/// on `product_ids`, so that different pages recommend different products.
pub fn recommend(all: Vec<Product>, product_ids: &[String], count: usize) -> Vec<Product> {
    let liked: Vec<String> = all
        .iter()
        .filter(|product| product_ids.contains(&product.id))
        .flat_map(|product| product.categories.clone())
        .collect();
    let turn = product_ids.iter().flat_map(|id| id.bytes()).map(usize::from).sum::<usize>();
    let places = all.len().max(1);
    let mut others: Vec<_> = all
        .into_iter()
        .enumerate()
        .filter(|(_, product)| !product_ids.contains(&product.id))
        .map(|(place, product)| {
            let shared = product.categories.iter().filter(|category| liked.contains(category)).count();
            (std::cmp::Reverse(shared), (place + turn) % places, product)
        })
        .collect();
    others.sort_by_key(|(shared, place, _)| (*shared, *place));
    others.into_iter().take(count).map(|(.., product)| product).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::all_products;

    fn ids(product_ids: &[&str], count: usize) -> Vec<String> {
        let product_ids: Vec<String> = product_ids.iter().map(|id| (*id).into()).collect();
        recommend(all_products(), &product_ids, count).into_iter().map(|product| product.id).collect()
    }

    #[test]
    fn products_of_the_same_category_come_first() {
        let found = ids(&["6E92ZMYYFZ"], 2);
        assert_eq!(found, ["2ZYFJ3GM2N", "9SIQT8TOJO"], "the kettle shares two categories with the mug, the jar one");
    }

    #[test]
    fn given_products_are_not_recommended() {
        let all: Vec<String> = all_products().into_iter().map(|product| product.id).collect();
        let all: Vec<&str> = all.iter().map(String::as_str).collect();
        assert!(ids(&all, 4).is_empty());
        assert_eq!(ids(&all[1..], 4), [all[0]]);
    }

    #[test]
    fn at_most_count_products_are_returned_and_unknown_ids_are_ignored() {
        assert_eq!(ids(&[], 4).len(), 4);
        assert_eq!(ids(&["nothing"], 100).len(), 9);
        assert!(ids(&["6E92ZMYYFZ"], 0).is_empty());
    }
}
