//! What pages for people have in common: who gets one, and that nothing shown in one becomes markup. Owns no page's words.

pub(super) mod build;
pub(super) mod problem;

use http::{HeaderValue, Method, Request, Response, StatusCode, header};
use isopod_engine::ReplyBody;

/// Whether a request comes from a person who looks at a page, and not from a program.
pub(in crate::ingress) fn is_for_a_person<B>(request: &Request<B>) -> bool {
    let accepted = request.headers().get_all(header::ACCEPT);
    let takes_html =
        || accepted.iter().filter_map(|value| value.to_str().ok()).any(|value| value.contains("text/html"));
    // HEAD has the head that GET would have.
    matches!(*request.method(), Method::GET | Method::HEAD) && takes_html()
}

/// A page with its `{{name}}` replaced by these texts.
pub(in crate::ingress) fn fill(page: &str, texts: &[(&str, &str)]) -> String {
    texts.iter().fold(page.to_owned(), |page, (name, text)| page.replace(&format!("{{{{{name}}}}}"), &escape(text)))
}

/// The answer with a page, which nothing keeps.
pub(in crate::ingress) fn answer(status: StatusCode, page: String) -> Response<ReplyBody> {
    let mut response = Response::new(ReplyBody::full(page));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/html; charset=utf-8"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

/// The brace too, so that no text is taken for a place where another one goes.
fn escape(text: &str) -> String {
    let text = text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;");
    text.replace('"', "&quot;").replace('{', "&#123;")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_browser_is_told_from_a_program() {
        let asks = |accept: &str| {
            let request = Request::builder().header(header::ACCEPT, accept).body(()).unwrap();
            is_for_a_person(&request)
        };
        assert!(asks("text/html,application/xhtml+xml;q=0.9,*/*;q=0.8"));
        assert!(!asks("*/*"));
        assert!(!asks("application/json"));
    }

    #[test]
    fn what_is_shown_cannot_become_markup_or_a_place_for_other_text() {
        let filled = fill("<p>{{a}}</p>{{b}}", &[("a", "Vec<u8> & \"x\" {{b}}"), ("b", "end")]);
        assert_eq!(filled, "<p>Vec&lt;u8&gt; &amp; &quot;x&quot; &#123;&#123;b}}</p>end");
    }
}
