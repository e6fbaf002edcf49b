//! Searches products by words.

use boutique_types::Product;

use crate::all_products;

/// The maximum number of words of a query that are used. All further words are ignored.
const WORDS_MAX: usize = 8;

/// Returns the products that contain every word of the query, best match first. An empty query has no results.
pub fn search(query: &str) -> Vec<Product> {
    let words: Vec<String> = query.split_whitespace().take(WORDS_MAX).map(str::to_lowercase).collect();
    if words.is_empty() {
        return Vec::new();
    }
    let mut found: Vec<(u32, Product)> = all_products()
        .into_iter()
        .filter_map(|product| {
            let scores: Option<Vec<u32>> = words.iter().map(|word| score(&product, word)).collect();
            Some((scores?.into_iter().sum(), product))
        })
        .collect();
    found.sort_by_key(|(score, _)| std::cmp::Reverse(*score));
    found.into_iter().map(|(_, product)| product).collect()
}

/// Returns the score of a word for a product, or `None` if the product does not contain the word. A word in the
/// product's name has the highest score.
fn score(product: &Product, word: &str) -> Option<u32> {
    let holds = |text: &str| text.to_lowercase().contains(word);
    let points = u32::from(holds(&product.name)) * 8
        + u32::from(product.categories.iter().any(|category| category == word)) * 4
        + u32::from(holds(&product.summary)) * 2
        + u32::from(holds(&product.description));
    (points > 0).then_some(points)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(query: &str) -> Vec<String> {
        search(query).into_iter().map(|product| product.name).collect()
    }

    #[test]
    fn a_product_must_contain_every_word_in_any_case() {
        assert_eq!(names("PEBBLE mug"), ["Pebble Mug"]);
        assert_eq!(names("pebble lamp"), Vec::<String>::new());
    }

    #[test]
    fn a_category_finds_its_products() {
        assert_eq!(names("kitchen"), ["Tern Kettle", "Harbour Jar", "Pebble Mug"]);
    }

    #[test]
    fn a_word_in_the_name_scores_higher_than_one_in_the_text() {
        assert_eq!(names("stool").first().map(String::as_str), Some("Larch Stool"));
        assert_eq!(names("glass").first().map(String::as_str), Some("Noon Sunglasses"));
    }

    #[test]
    fn an_empty_query_has_no_results() {
        assert!(search(" \t ").is_empty());
        assert!(search("<script>").is_empty());
    }
}
