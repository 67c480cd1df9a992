//! Matches paths to handlers without building a table. Allocates only the values that a pattern
//! names.

use super::{Method, Request, Response, url};

/// A pattern for paths: `/notes/{id}`, or `/files/{*rest}` for the rest of the path.
#[derive(Clone, Copy)]
pub struct Path(pub &'static str);

impl Path {
    /// Returns whether a path matches. Passes each named part to `named`, undecoded.
    fn matches<'a>(self, path: &'a str, mut named: impl FnMut(&'static str, &'a str)) -> bool {
        let (mut rest, (_, mut parts)) = (path, url::split_at_byte(self.0, b'/'));
        while let Some(pattern) = parts {
            let (part, others) = url::split_at_byte(pattern, b'/');
            parts = others;
            let Some(after) = rest.strip_prefix('/') else { return false };
            if let Some(name) = part.strip_prefix("{*").and_then(|name| name.strip_suffix('}')) {
                named(name, after);
                return true;
            }
            let end = after.bytes().position(|byte| byte == b'/').unwrap_or(after.len());
            let (segment, after) = after.split_at(end);
            match part.strip_prefix('{').and_then(|name| name.strip_suffix('}')) {
                Some(name) if !segment.is_empty() => named(name, segment),
                None if part == segment => {}
                _ => return false,
            }
            rest = after;
        }
        rest.is_empty()
    }

    /// Returns whether a request matches method and pattern. On a match, stores the named parts in
    /// the request.
    pub fn accepts(self, method: &str, request: &mut Request) -> bool {
        let same = request.method.as_str() == method || (request.method == Method::Head && method == "GET");
        if !same {
            return false;
        }
        let mut params = Vec::new();
        let fits = self.matches(request.path(), |name, value| params.push((name, url::decode(value, false).into())));
        if fits {
            request.params = params;
        }
        fits
    }
}

/// Returns the response if no route matches: 405 with the allowed methods, or 404.
pub fn no_route(request: &Request, routes: &[(&'static str, Path)]) -> Response {
    let fitting = routes.iter().filter(|(_, pattern)| pattern.matches(request.path(), |_, _| {}));
    let allowed: Vec<&str> = fitting.map(|(method, _)| *method).collect();
    if allowed.is_empty() {
        Response::text("No route matches this path.\n").with_status(404)
    } else {
        Response::text("This path does not support this method.\n")
            .with_status(405)
            .with_header("allow", allowed.join(", "))
    }
}

/// Defines an async function that passes each request to the first handler with a matching method
/// and path.
///
/// `{name}` matches one part of the path and `{*name}` the rest. The handler reads both with
/// [`Request::param`](crate::http::Request::param). A HEAD request uses the route for GET. If no
/// path matches, the response is 404; if only the method doesn't match, 405.
///
/// ```
/// use isopod_sdk::prelude::*;
///
/// isopod_sdk::http!(app);
/// isopod_sdk::routes!(app:
///     GET "/" => home,
///     GET "/notes/{id}" => note,
/// );
///
/// async fn home(_: Request) -> Result<Response> {
///     Ok(Response::text("home"))
/// }
///
/// async fn note(request: Request) -> Result<Response> {
///     Ok(Response::text(format!("note {}", request.param("id")?)))
/// }
///
/// # fn main() {
/// let answer = isopod_sdk::testing::answer(app(Request::get("/notes/7")));
/// assert_eq!(answer.body_text().unwrap(), "note 7");
/// # }
/// ```
#[macro_export]
macro_rules! routes {
    ($name:ident: $($method:ident $pattern:literal => $handler:path),+ $(,)?) => {
        /// Passes a request to the handler of its route.
        pub async fn $name(mut request: $crate::http::Request) -> $crate::Result<$crate::http::Response> {
            $(if $crate::http::Path($pattern).accepts(stringify!($method), &mut request) {
                return $handler(request).await;
            })+
            Ok($crate::http::no_route(&request, &[$((stringify!($method), $crate::http::Path($pattern))),+]))
        }
    };
}

#[cfg(test)]
mod tests {
    use super::*;

    fn matched(pattern: &'static str, path: &str) -> Option<Vec<(&'static str, String)>> {
        let mut named = Vec::new();
        Path(pattern).matches(path, |name, value| named.push((name, value.to_owned()))).then_some(named)
    }

    #[test]
    fn patterns_match_whole_paths() {
        assert_eq!(matched("/", "/"), Some(vec![]));
        assert_eq!(matched("/notes", "/notes"), Some(vec![]));
        assert_eq!(matched("/notes", "/notes/"), None);
        assert_eq!(matched("/notes", "/notesx"), None);
        assert_eq!(matched("/notes/{id}", "/notes/7"), Some(vec![("id", "7".to_owned())]));
        assert_eq!(matched("/notes/{id}", "/notes/"), None);
        assert_eq!(matched("/notes/{id}/edit", "/notes/7/edit"), Some(vec![("id", "7".to_owned())]));
        assert_eq!(matched("/files/{*rest}", "/files/a/b.txt"), Some(vec![("rest", "a/b.txt".to_owned())]));
    }

    #[test]
    fn an_unsupported_method_gets_405_with_the_allowed_methods() {
        let routes = [("GET", Path("/notes")), ("POST", Path("/notes")), ("GET", Path("/"))];
        let answer = no_route(&Request::new("DELETE", "/notes"), &routes);
        assert_eq!((answer.status, answer.headers.get("allow")), (405, Some("GET, POST")));
        assert_eq!(no_route(&Request::get("/nowhere"), &routes).status, 404);
    }

    #[test]
    fn head_uses_the_route_for_get_and_parameters_are_decoded() {
        let mut request = Request::new("HEAD", "/notes/a%20b?x=1");
        assert!(Path("/notes/{id}").accepts("GET", &mut request));
        assert_eq!(request.param("id").unwrap(), "a b");
    }
}
