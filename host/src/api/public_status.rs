//! The public status: the apps that the operator selected, the page about them, and the last
//! rendered page. Renders the page at most once per interval, however many clients read it. Never
//! reads the state of an app.

use std::{
    sync::{Mutex, PoisonError},
    time::Instant,
};

use base64::{Engine as _, engine::general_purpose::STANDARD as BASE64};
use bytes::Bytes;
use isopod_policy::AppPattern;
use jiff::Timestamp;
use sha2::{Digest, Sha256};

use super::limits;
use crate::control::AppRecord;

const PAGE: &str = include_str!("public_status/page.html");
const STYLE: &str = include_str!("public_status/style.css");

/// The operator's settings of the public status.
#[derive(Debug, Clone, Default)]
pub(crate) struct StatusPageConfig {
    /// The heading of the page.
    pub(crate) title: String,
    /// The apps that the public status shows. An empty list disables the public status.
    pub(crate) apps: Vec<AppPattern>,
}

/// The settings, and the last rendered page.
pub(crate) struct StatusPage {
    config: StatusPageConfig,
    rendered: Mutex<Option<(Instant, Bytes)>>,
}

impl StatusPage {
    pub(crate) fn new(config: StatusPageConfig) -> Self {
        Self { config, rendered: Mutex::default() }
    }

    /// Returns whether the settings select any app.
    pub(super) fn is_enabled(&self) -> bool {
        !self.config.apps.is_empty()
    }

    /// Returns whether the status of an app is public. That of a plugin never is.
    pub(super) fn is_public(&self, app: &AppRecord) -> bool {
        app.kind.is_app() && self.config.apps.iter().any(|pattern| pattern.matches(&app.name))
    }

    /// Returns the page. Renders it with the names of the public apps, and whether each is up, if
    /// the last page is too old.
    pub(super) fn page(&self, now: Instant, apps: impl FnOnce() -> Vec<(String, bool)>) -> Bytes {
        let mut rendered = self.rendered.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((at, page)) = &*rendered
            && now.saturating_duration_since(*at) < limits::STATUS_PAGE_INTERVAL
        {
            return page.clone();
        }
        let page = Bytes::from(render(&self.config.title, apps(), Timestamp::now()));
        *rendered = Some((now, page.clone()));
        page
    }
}

/// Returns the content policy of the page: nothing but its own style can style it, and nothing can
/// run in it or frame it.
pub(super) fn content_policy() -> String {
    let digest = BASE64.encode(Sha256::digest(STYLE.as_bytes()));
    format!(
        "default-src 'none'; style-src 'sha256-{digest}'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )
}

/// Renders the page: first the apps that are down.
fn render(title: &str, mut apps: Vec<(String, bool)>, at: Timestamp) -> String {
    let down = apps.iter().filter(|(_, up)| !up).count();
    let (summary, tone) = match (apps.len(), down) {
        (0, _) => ("No services".to_owned(), "none"),
        (_, 0) => ("All services are up".to_owned(), "up"),
        (_, 1) => ("1 service is down".to_owned(), "down"),
        (_, down) => (format!("{down} services are down"), "down"),
    };
    apps.sort_by(|(name, up), (other, other_up)| (up, name).cmp(&(other_up, other)));
    let mut items: String = apps
        .iter()
        .take(limits::STATUS_PAGE_APPS_MAX)
        .map(|(name, up)| {
            let word = if *up { "up" } else { "down" };
            format!("<li><span>{}</span> <strong class=\"{word}\">{word}</strong></li>\n", escape(name))
        })
        .collect();
    if let Some(more @ 1..) = apps.len().checked_sub(limits::STATUS_PAGE_APPS_MAX) {
        items.push_str(&format!("<li>{more} more</li>\n"));
    }
    // The title is inserted last, since it may contain a placeholder.
    let page = PAGE.replace("{{style}}", STYLE).replace("{{tone}}", tone).replace("{{summary}}", &summary);
    let page = page.replace("{{items}}", &items).replace("{{at}}", &format!("{at:.0}"));
    page.replace("{{title}}", &escape(title))
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn rendered(title: &str, apps: &[(&str, bool)]) -> String {
        render(title, apps.iter().map(|(name, up)| ((*name).to_owned(), *up)).collect(), Timestamp::UNIX_EPOCH)
    }

    #[test]
    fn clients_share_a_page_until_it_is_too_old() {
        let page = StatusPage::new(StatusPageConfig { title: "Shop".to_owned(), apps: Vec::new() });
        let (start, up) = (Instant::now(), |up| move || vec![("shop".to_owned(), up)]);
        let first = page.page(start, up(true));
        assert_eq!(page.page(start + limits::STATUS_PAGE_INTERVAL - Duration::from_millis(1), up(false)), first);
        assert_ne!(page.page(start + limits::STATUS_PAGE_INTERVAL, up(false)), first);
    }

    #[test]
    fn the_page_lists_apps_that_are_down_first() {
        let page = rendered("Shop", &[("blog", true), ("shop", false)]);
        assert!(page.contains("1 service is down") && page.contains("1970-01-01T00:00:00Z"), "{page}");
        assert!(page.find("<span>shop</span>") < page.find("<span>blog</span>"), "{page}");
        assert!(!page.contains("{{"), "{page}");
    }

    #[test]
    fn the_title_cannot_become_markup_or_a_placeholder() {
        let page = rendered("<b>{{items}}\"", &[("blog", true)]);
        assert!(page.contains("&lt;b&gt;{{items}}&quot;") && page.matches("<li>").count() == 1, "{page}");
    }

    #[test]
    fn a_page_lists_a_bounded_number_of_apps() {
        let apps = vec![("blog", true); limits::STATUS_PAGE_APPS_MAX + 3];
        let page = rendered("Shop", &apps);
        assert!(page.contains("<li>3 more</li>") && page.contains("All services are up"));
    }

    /// The content policy would block another style.
    #[test]
    fn the_page_has_one_style_and_no_script() {
        let page = rendered("Shop", &[]);
        assert!(page.contains(&format!("<style>{STYLE}</style>")), "{page}");
        assert!(page.matches("<style").count() == 1 && !page.contains("style=") && !page.contains("<script"));
    }
}
