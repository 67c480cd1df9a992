//! Selects the requests that get an HTML page, and fills page templates so that no inserted text
//! becomes markup. Never contains the text of a page.

pub(super) mod build;
pub(super) mod problem;

use http::{HeaderValue, Method, Response, StatusCode, header, request::Parts};
use isopod_engine::ResponseBody;

/// Returns whether a request comes from a browser that displays HTML.
pub(in crate::ingress) fn wants_html(request: &Parts) -> bool {
    let accepted = request.headers.get_all(header::ACCEPT);
    let accepts_html =
        || accepted.iter().filter_map(|value| value.to_str().ok()).any(|value| value.contains("text/html"));
    // The responses to HEAD and GET have the same head.
    matches!(request.method, Method::GET | Method::HEAD) && accepts_html()
}

/// Replaces each `{{name}}` of a page by its text.
pub(in crate::ingress) fn fill(page: &str, texts: &[(&str, &str)]) -> String {
    texts.iter().fold(page.to_owned(), |page, (name, text)| page.replace(&format!("{{{{{name}}}}}"), &escape(text)))
}

/// Returns the response with a page. It must not be cached.
pub(in crate::ingress) fn response(status: StatusCode, page: String) -> Response<ResponseBody> {
    let mut response = Response::new(ResponseBody::full(page));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/html; charset=utf-8"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

/// Escapes HTML, and the brace, so that an inserted text can't contain a placeholder.
fn escape(text: &str) -> String {
    let text = text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;");
    text.replace('"', "&quot;").replace('{', "&#123;")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_browser_gets_html() {
        let wants = |accept: &str| {
            let request = http::Request::builder().header(header::ACCEPT, accept).body(()).unwrap();
            wants_html(&request.into_parts().0)
        };
        assert!(wants("text/html,application/xhtml+xml;q=0.9,*/*;q=0.8"));
        assert!(!wants("*/*"));
        assert!(!wants("application/json"));
    }

    #[test]
    fn inserted_text_cannot_become_markup_or_a_placeholder() {
        let filled = fill("<p>{{a}}</p>{{b}}", &[("a", "Vec<u8> & \"x\" {{b}}"), ("b", "end")]);
        assert_eq!(filled, "<p>Vec&lt;u8&gt; &amp; &quot;x&quot; &#123;&#123;b}}</p>end");
    }
}
