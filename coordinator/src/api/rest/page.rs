//! Pages of lists: so many at once, from where the last page ended.

use super::problem::Problem;
use axum::http::header::LINK;
use axum::http::{HeaderValue, Uri};
use axum::response::{IntoResponse, Response};

/// Entries of a page at most.
pub const PAGE_MAX: u32 = 1_000;
/// Entries of a page when nobody says.
pub const PAGE: u32 = 100;

/// The limit that a caller asked for.
///
/// # Errors
/// Zero, and above the most.
pub fn limit(asked: Option<u32>) -> Result<usize, Problem> {
    match asked.unwrap_or(PAGE) {
        limit @ 1..=PAGE_MAX => Ok(limit as usize),
        other => Err(Problem::bad_request(format!("limit: {other}; a page has 1 to {PAGE_MAX} entries"))),
    }
}

/// Cuts a list to the page behind the entry that `is_after` finds; without a search, to the first one. Returns whether there is more.
///
/// # Errors
/// None when there is no such entry.
pub fn cut<T>(all: &mut Vec<T>, limit: usize, is_after: Option<impl Fn(&T) -> bool>) -> Option<bool> {
    if let Some(is_after) = is_after {
        let at = all.iter().position(is_after)?;
        all.drain(..=at);
    }
    let more = all.len() > limit;
    all.truncate(limit);
    Some(more)
}

/// The answer, with the way to the next page (RFC 8288) if there is one.
pub fn linked(answer: impl IntoResponse, uri: &Uri, next: Option<(&str, &str)>) -> Response {
    let mut response = answer.into_response();
    if let Some((key, value)) = next {
        let mut query = form_urlencoded::Serializer::new(String::new());
        let rest = form_urlencoded::parse(uri.query().unwrap_or_default().as_bytes());
        query.extend_pairs(rest.filter(|(name, _)| name != key)).append_pair(key, value);
        let link = format!("<{}?{}>; rel=\"next\"", uri.path(), query.finish());
        // What is encoded has only a header's characters.
        if let Ok(link) = HeaderValue::try_from(link) {
            response.headers_mut().insert(LINK, link);
        }
    }
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_follow_each_other() {
        let page = |after: Option<u32>| {
            let mut all = vec![5, 3, 1];
            let more = cut(&mut all, 2, after.map(|after| move |entry: &u32| *entry == after));
            (all, more)
        };
        assert_eq!(page(None), (vec![5, 3], Some(true)));
        assert_eq!(page(Some(3)), (vec![1], Some(false)));
        assert_eq!(page(Some(1)), (vec![], Some(false)));
        assert_eq!(page(Some(7)).1, None);
    }

    #[test]
    fn the_next_page_is_asked_for_with_the_same_filter() {
        let uri: Uri = "/v1/jobs?label=a%3Db&before=9".parse().expect("an address");
        let link = linked((), &uri, Some(("before", "4"))).headers()[LINK].clone();
        assert_eq!(link, "</v1/jobs?label=a%3Db&before=4>; rel=\"next\"");
        assert!(linked((), &uri, None).headers().get(LINK).is_none());
    }
}
