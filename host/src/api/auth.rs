//! Authorises API requests: owns the known tokens, and compares them with the need of a route. Never
//! stores a token itself, only its hash.

use std::{
    collections::HashMap,
    sync::{Arc, PoisonError, RwLock},
};

use axum::http::{HeaderMap, header};
use isopod_policy::{AppName, Role, Scope};
use isopod_store::Token;
use sha2::{Digest, Sha256};
use tokio::sync::Mutex;
use tokio_util::sync::CancellationToken;

use super::route_roles::Need;
use crate::control::{AppRecord, failpoint::reached};

/// Why a request is refused.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Refused {
    #[error("the request has no token")]
    NoToken,
    #[error("the request has several authorization headers")]
    SeveralTokens,
    #[error("unknown token")]
    UnknownToken,
    #[error("the token `{name}` has the role `{has}`, but this request needs `{needs}`")]
    RoleTooSmall { name: String, has: Role, needs: Role },
    #[error("the token `{name}` is limited to some apps, and this request is outside of its scope")]
    OutOfScope { name: String },
}

/// Returns the id of the app that currently has a name.
pub(crate) type AppIds<'a> = dyn Fn(&AppName) -> Option<String> + 'a;

/// The tokens of the store, by hash, for requests to be authorised without disk access. Cheap to
/// clone.
#[derive(Clone)]
pub(crate) struct Tokens(Arc<Table>);

struct Table {
    known: RwLock<HashMap<String, KnownToken>>,
    /// Locked while the stored tokens change.
    changing: Mutex<()>,
}

#[derive(Clone)]
struct KnownToken {
    row: Token,
    /// Cancelled when the token is removed.
    removed: CancellationToken,
}

/// The token that authorises a request.
#[derive(Debug, Clone)]
pub(crate) struct Authorised {
    pub(crate) name: String,
    pub(crate) role: Role,
    /// Cancelled when the token is removed. A later token of the same name has its own.
    pub(crate) removed: CancellationToken,
}

impl Authorised {
    /// Refuses the request unless the role includes `needed`: for requests whose needed role
    /// depends on their body.
    pub(crate) fn ensure(&self, needed: Role) -> Result<(), Refused> {
        if self.role.includes(needed) {
            return Ok(());
        }
        Err(Refused::RoleTooSmall { name: self.name.clone(), has: self.role, needs: needed })
    }
}

impl Tokens {
    pub(crate) fn new(rows: Vec<Token>) -> Self {
        let tokens = Self(Arc::new(Table { known: RwLock::default(), changing: Mutex::default() }));
        tokens.adopt(rows);
        tokens
    }

    /// Runs a change of the store, which returns all tokens after the change, and adopts these
    /// tokens. Changes run one at a time, since the result of an earlier change must not replace
    /// the result of a later one.
    pub(crate) async fn change<E>(&self, stored: impl Future<Output = Result<Vec<Token>, E>>) -> Result<(), E> {
        let _changing = self.0.changing.lock().await;
        let rows = stored.await?;
        reached("tokens-stored").await;
        self.adopt(rows);
        Ok(())
    }

    /// Replaces the table. The event streams of removed tokens end.
    fn adopt(&self, rows: Vec<Token>) {
        let mut known = self.0.known.write().unwrap_or_else(PoisonError::into_inner);
        let mut former = std::mem::take(&mut *known);
        for row in rows {
            let removed = former.remove(&row.hash).map_or_else(CancellationToken::new, |former| former.removed);
            known.insert(row.hash.clone(), KnownToken { row, removed });
        }
        former.into_values().for_each(|former| former.removed.cancel());
    }

    /// Returns the token that authorises the request; `None` if the route needs no token.
    pub(crate) fn check(
        &self,
        headers: &HeaderMap,
        need: &Need,
        id_of: &AppIds<'_>,
    ) -> Result<Option<Authorised>, Refused> {
        let Need::Role { any_of, app, all_apps } = need else { return Ok(None) };
        let KnownToken { row, removed } = self.caller(headers)?;
        let apps = apps_of(&row, id_of);
        if row.scope != Scope::All && apps.is_empty() {
            // A token is removed with its apps, also while they are being destroyed.
            return Err(Refused::UnknownToken);
        }
        if let Some(needs) = any_of.first().filter(|_| !any_of.iter().any(|needed| row.role.includes(*needed))) {
            return Err(Refused::RoleTooSmall { name: row.name, has: row.role, needs: *needs });
        }
        let in_scope = match &row.scope {
            Scope::All => true,
            Scope::Apps(_) if *all_apps => false,
            Scope::Apps(_) => {
                app.as_ref().is_none_or(|app| apps.iter().any(|allowed| allowed.as_str() == app.as_str()))
            }
        };
        if in_scope {
            Ok(Some(Authorised { name: row.name, role: row.role, removed }))
        } else {
            Err(Refused::OutOfScope { name: row.name })
        }
    }

    /// Returns whether the caller of an authorised request may see an app in a list.
    pub(crate) fn may_see(&self, headers: &HeaderMap, app: &AppRecord) -> bool {
        self.caller(headers)
            .is_ok_and(|KnownToken { row, .. }| row.scope == Scope::All || row.app_ids.contains(&app.id))
    }

    /// Looks the token up by its hash, so that the time of the comparison doesn't depend on a
    /// token.
    fn caller(&self, headers: &HeaderMap) -> Result<KnownToken, Refused> {
        let mut values = headers.get_all(header::AUTHORIZATION).iter();
        let value = values.next().ok_or(Refused::NoToken)?;
        if values.next().is_some() {
            return Err(Refused::SeveralTokens);
        }
        let value = value.to_str().map_err(|_| Refused::UnknownToken)?;
        let (scheme, token) = value.split_once(' ').ok_or(Refused::NoToken)?;
        if !scheme.eq_ignore_ascii_case("bearer") {
            return Err(Refused::NoToken);
        }
        let known = self.0.known.read().unwrap_or_else(PoisonError::into_inner);
        known.get(&hash(token.trim())).cloned().ok_or(Refused::UnknownToken)
    }
}

/// Returns the existing apps of a token. Compares ids, since a later app may have the same name.
fn apps_of<'a>(row: &'a Token, id_of: &AppIds<'_>) -> Vec<&'a AppName> {
    let Scope::Apps(apps) = &row.scope else { return Vec::new() };
    apps.iter().filter(|app| id_of(app).is_some_and(|id| row.app_ids.contains(&id))).collect()
}

/// Returns the hash of a token, which is stored in its place.
pub(crate) fn hash(token: &str) -> String {
    Sha256::digest(token.as_bytes()).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Returns a new token with 256 random bits.
pub(crate) fn new_token() -> String {
    let bytes: [u8; 32] = rand::random();
    let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    format!("iso_{hex}")
}

#[cfg(test)]
mod tests {
    use std::{convert::Infallible, pin::pin};

    use axum::http::Method;

    use super::{super::route_roles::needed, *};

    fn headers(value: &str) -> HeaderMap {
        HeaderMap::from_iter([(header::AUTHORIZATION, value.parse().expect("is a header"))])
    }

    fn tokens(role: Role, scope: Scope) -> Tokens {
        Tokens::new(vec![Token { role, scope, app_ids: vec!["id-of-mine".to_owned()], ..row("ci", "secret") }])
    }

    fn row(name: &str, secret: &str) -> Token {
        Token {
            hash: hash(secret),
            name: name.to_owned(),
            role: Role::Read,
            scope: Scope::All,
            app_ids: Vec::new(),
            created_at: jiff::Timestamp::UNIX_EPOCH,
        }
    }

    async fn store(tokens: &Tokens, rows: &[Token]) {
        let Ok(()) = tokens.change(async { Ok::<_, Infallible>(rows.to_vec()) }).await;
    }

    /// Derives each app's id from its name.
    fn ids(app: &AppName) -> Option<String> {
        Some(format!("id-of-{app}"))
    }

    #[test]
    fn a_token_works_for_no_later_app_of_the_same_name() {
        let tokens = tokens(Role::Deploy, Scope::Apps(vec!["mine".parse().expect("is a name")]));
        let check = |path, ids: &AppIds<'_>| tokens.check(&headers("Bearer secret"), &needed(&Method::GET, path), ids);
        assert!(check("/v1/apps/mine", &ids).is_ok());
        for other in [None, Some("id-of-a-later-app".to_owned())] {
            for path in ["/v1/apps/mine", "/v1/apps"] {
                assert!(matches!(check(path, &|_| other.clone()), Err(Refused::UnknownToken)), "{path} {other:?}");
            }
        }
    }

    #[tokio::test]
    async fn a_removed_token_is_reported_to_its_requests_only() {
        let both = Tokens::new(vec![row("ci", "secret")]);
        store(&both, &[row("ci", "secret"), row("ann", "ann")]).await;
        let need = needed(&Method::GET, "/v1/apps/x/logs");
        let check = |token: &str| both.check(&headers(&format!("Bearer {token}")), &need, &ids);
        let authorised = |checked: Result<Option<Authorised>, Refused>| {
            checked.expect("the token is known").expect("the route needs a token")
        };
        let (ci, ann) = (authorised(check("secret")), authorised(check("ann")));
        store(&both, &[row("ann", "ann")]).await;
        assert!(ci.removed.is_cancelled() && !ann.removed.is_cancelled());
        store(&both, &[row("ann", "ann"), row("ci", "ci")]).await;
        let later = authorised(both.check(&headers("Bearer ci"), &need, &ids));
        assert!(
            ci.removed.is_cancelled() && !later.removed.is_cancelled(),
            "a later token of the same name isn't affected"
        );
    }

    /// The response of the store to the earlier change arrives late.
    #[tokio::test]
    async fn concurrent_changes_of_one_name_leave_the_stored_tokens() {
        type Change = fn(&mut Vec<Token>);
        let create: Change = |rows| rows.push(row("ci", "new"));
        let delete: Change = |rows| rows.clear();
        for (before, earlier, later) in [(vec![row("ci", "old")], delete, create), (Vec::new(), create, delete)] {
            let (tokens, is_late) = (Tokens::new(before.clone()), CancellationToken::new());
            let stored = std::sync::Mutex::new(before);
            let apply = |change: Change| {
                let mut rows = stored.lock().expect("no test panics with the lock");
                change(&mut rows);
                Ok::<_, Infallible>(rows.clone())
            };
            let earlier = async {
                let rows = apply(earlier);
                is_late.cancelled().await;
                rows
            };
            let (mut earlier, later) = (pin!(tokens.change(earlier)), tokens.change(async { apply(later) }));
            assert!(futures::poll!(&mut earlier).is_pending());
            let (Ok(()), Ok(()), ()) = futures::join!(earlier, later, async { is_late.cancel() });
            let need = needed(&Method::GET, "/v1/apps");
            for secret in ["old", "new"] {
                let is_stored = stored.lock().expect("no test panics").iter().any(|row| row.hash == hash(secret));
                let is_accepted = tokens.check(&headers(&format!("Bearer {secret}")), &need, &ids).is_ok();
                assert_eq!(is_accepted, is_stored, "{secret}");
            }
        }
    }

    #[test]
    fn a_token_is_missing_unknown_or_too_small() {
        let tokens = tokens(Role::Read, Scope::All);
        let read = needed(&Method::GET, "/v1/apps");
        let push = needed(&Method::POST, "/v1/apps/x/pushes");
        assert!(matches!(tokens.check(&HeaderMap::new(), &read, &ids), Err(Refused::NoToken)));
        assert!(matches!(tokens.check(&headers("Bearer guess"), &read, &ids), Err(Refused::UnknownToken)));
        assert!(matches!(tokens.check(&headers("Bearer secret"), &push, &ids), Err(Refused::RoleTooSmall { .. })));
        assert!(tokens.check(&headers("bearer secret"), &read, &ids).is_ok());
        let mut twice = headers("Bearer secret");
        twice.append(header::AUTHORIZATION, header::HeaderValue::from_static("Bearer secret"));
        assert!(matches!(tokens.check(&twice, &read, &ids), Err(Refused::SeveralTokens)));
    }

    #[test]
    fn a_token_for_some_apps_reaches_no_other() {
        let tokens = tokens(Role::Deploy, Scope::Apps(vec!["mine".parse().expect("is a name")]));
        let check = |method, path| tokens.check(&headers("Bearer secret"), &needed(&method, path), &ids).is_ok();
        assert!(check(Method::POST, "/v1/apps/mine/pushes"));
        assert!(!check(Method::POST, "/v1/apps/other/pushes"));
        assert!(!check(Method::POST, "/v1/apps"));
        assert!(check(Method::GET, "/v1/apps"));
    }

    #[test]
    fn tokens_are_long_and_differ() {
        assert!(new_token().len() > 64);
        assert_ne!(new_token(), new_token());
    }
}
