//! Pages of a list.

/// Maximum number of items on one page.
pub const PAGE: usize = 100;

/// One page of an ordered list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Page<T, C> {
    /// At most [`PAGE`] items.
    pub items: Vec<T>,
    /// The id after which the next page begins; `None` on the last page.
    pub next: Option<C>,
}

impl<T, C> Page<T, C> {
    /// Builds a page from the items that start at it: all that remain, or at least one more than fits.
    pub(in crate::account) fn of(mut items: Vec<T>, id: impl Fn(&T) -> C) -> Self {
        let more = PAGE < items.len();
        items.truncate(PAGE);
        let next = items.last().filter(|_| more).map(id);
        Self { items, next }
    }
}

/// Collects the items of all pages in order, each converted by `shown`.
///
/// # Errors
/// The first error of `page`, which fetches the page that begins after an id.
pub async fn shown_all<T, C, V, E, F>(
    mut page: impl FnMut(Option<C>) -> F,
    shown: impl Fn(T) -> V,
) -> Result<Vec<V>, E>
where
    F: Future<Output = Result<Page<T, C>, E>>,
{
    let (mut all, mut after) = (Vec::new(), None);
    loop {
        let found = page(after).await?;
        all.extend(found.items.into_iter().map(&shown));
        after = found.next;
        if after.is_none() {
            return Ok(all);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_names_its_last_item_if_there_are_more() {
        for (count, next) in [
            (0, None),
            (1, None),
            (PAGE, None),
            (PAGE + 1, Some(PAGE - 1)),
        ] {
            let page = Page::of((0..count).collect(), |item| *item);
            assert_eq!(
                (page.items.len(), page.next),
                (count.min(PAGE), next),
                "{count}"
            );
        }
    }
}
