//! What the kitchen cooks, and for how long. Pure: the same dish always takes the same time, on every instance.

/// How long each dish of the menu takes, in milliseconds.
const MENU: [(&str, u32); 6] =
    [("bread", 4_000), ("salad", 5_000), ("soup", 7_000), ("pasta", 9_000), ("curry", 11_000), ("tart", 13_000)];

/// The shortest time of a dish that is not on the menu, in milliseconds.
const OFF_MENU_MIN_MS: u32 = 6_000;

/// How many whole seconds a dish that is not on the menu may take beyond [`OFF_MENU_MIN_MS`].
const OFF_MENU_SPREAD_S: u32 = 5;

/// How long this order takes to cook, in milliseconds. Case does not matter, and "tomato soup" is a soup.
pub fn cook_ms(order: &str) -> u32 {
    let order = order.to_lowercase();
    MENU.iter()
        .find(|(dish, _)| order.split_whitespace().any(|word| word == *dish))
        .map_or_else(|| off_menu_ms(&order), |(_, ms)| *ms)
}

/// A dish that nobody planned: its letters decide, so that it takes the same time wherever it is cooked.
fn off_menu_ms(order: &str) -> u32 {
    let letters = order.chars().fold(0_u32, |sum, letter| sum.wrapping_add(u32::from(letter)));
    OFF_MENU_MIN_MS + letters % OFF_MENU_SPREAD_S * 1_000
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_dish_of_the_menu_takes_its_time_whatever_stands_around_it() {
        assert_eq!(cook_ms("soup"), 7_000);
        assert_eq!(cook_ms("Tomato SOUP, hot"), cook_ms("tomato soup, hot"));
        assert_eq!(cook_ms("tomato soup"), 7_000);
    }

    #[test]
    fn a_dish_that_is_not_on_the_menu_takes_the_same_time_everywhere() {
        let once = cook_ms("rhubarb crumble");
        assert_eq!(once, cook_ms("Rhubarb Crumble"));
        assert!((6_000..=11_000).contains(&once), "{once} ms is outside what an unplanned dish may take");
    }
}
