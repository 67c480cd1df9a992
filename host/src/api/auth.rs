//! Authorises API requests: owns the known tokens, and compares them with the need of a route.
//! Never stores a token itself, only its hash.

use std::{
    collections::HashMap,
    sync::{
        Arc, PoisonError, RwLock,
        atomic::{AtomicI64, Ordering},
    },
};

use axum::http::{HeaderMap, header};
use isopod_policy::{AppName, Role, Scope};
use isopod_store::{Token, TokenUse};
use jiff::Timestamp;
use sha2::{Digest, Sha256};
use tokio::sync::{Mutex, Notify};

use super::{
    route_roles::Need,
    token_end::{EndedBy, TokenEnd},
};
use crate::control::{AppRecord, Authority, Requester, failpoint::reached};

/// Why a request is refused.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Refused {
    #[error("the request has no token")]
    NoToken,
    #[error("the request has several authorization headers")]
    SeveralTokens,
    #[error("unknown token")]
    UnknownToken,
    #[error("the token `{name}` expired at {at}")]
    Expired { name: String, at: Timestamp },
    #[error("the token `{name}` has the role `{has}`, but this request needs `{needs}`")]
    RoleTooSmall { name: String, has: Role, needs: Role },
    #[error("the token `{name}` is limited to some apps, and this request is outside of its scope")]
    OutOfScope { name: String },
}

impl Refused {
    /// Returns the name of the refused token, if it is known.
    pub(crate) fn token(&self) -> Option<&str> {
        match self {
            Self::NoToken | Self::SeveralTokens | Self::UnknownToken => None,
            Self::Expired { name, .. } | Self::RoleTooSmall { name, .. } | Self::OutOfScope { name } => Some(name),
        }
    }
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
    /// Notified after each change, which may end a secret earlier than planned.
    changed: Notify,
}

/// A secret of a token. During the grace period of a rotation, a token has two.
#[derive(Clone)]
struct KnownToken {
    row: Arc<Token>,
    /// When this secret ends, and why.
    until: Option<(Timestamp, EndedBy)>,
    /// The end of this secret.
    end: TokenEnd,
    last_use: Arc<LastUse>,
}

/// When a token was last used, in milliseconds since the epoch; 0 if it was not used since the
/// start. Requests only set it, and the upkeep stores it.
#[derive(Default)]
struct LastUse {
    at_ms: AtomicI64,
    stored_ms: AtomicI64,
}

/// The token that authorises a request.
#[derive(Debug, Clone)]
pub(crate) struct Authorised {
    pub(crate) name: String,
    pub(crate) row: Arc<Token>,
    /// The end of the secret that the request has. A later token with the same name has a different
    /// one.
    pub(crate) end: TokenEnd,
}

impl Authorised {
    /// Refuses the request unless the role includes `needed`: for requests whose needed role
    /// depends on their body.
    pub(crate) fn ensure(&self, needed: Role) -> Result<(), Refused> {
        let has = self.row.role;
        if has.includes(needed) {
            Ok(())
        } else {
            Err(Refused::RoleTooSmall { name: self.name.clone(), has, needs: needed })
        }
    }

    /// Returns whether the token is for all apps.
    pub(crate) fn sees_all(&self) -> bool {
        self.row.scope == Scope::All
    }

    /// Returns whether the token's scope includes an app.
    pub(crate) fn sees(&self, app: &AppRecord) -> bool {
        self.sees_all() || self.row.app_ids.contains(&app.id)
    }

    /// Refuses the request unless the token's scope includes an app: for requests that name an app
    /// in their query.
    pub(crate) fn ensure_sees(&self, app: &AppRecord) -> Result<(), Refused> {
        if self.sees(app) { Ok(()) } else { Err(self.out_of_scope()) }
    }

    /// Returns the refusal of a request about an app that is outside of the token's scope.
    pub(crate) fn out_of_scope(&self) -> Refused {
        Refused::OutOfScope { name: self.name.clone() }
    }

    /// Returns the requester of a change.
    pub(crate) fn requester(&self) -> Requester {
        let authority = match self.row.role {
            Role::Admin => Authority::Administrator,
            Role::Read | Role::Send | Role::Operate | Role::Deploy => Authority::Limited(self.row.ceiling.clone()),
        };
        Requester { by: self.name.clone(), authority, accepts_grants: false, skips_gates: false }
    }
}

impl Tokens {
    pub(crate) fn new(rows: Vec<Token>) -> Self {
        let tokens =
            Self(Arc::new(Table { known: RwLock::default(), changing: Mutex::default(), changed: Notify::default() }));
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

    /// Replaces the table. The event streams of removed secrets end.
    fn adopt(&self, rows: Vec<Token>) {
        let mut known = self.0.known.write().unwrap_or_else(PoisonError::into_inner);
        let mut before = std::mem::take(&mut *known);
        let uses: HashMap<_, _> = before
            .values()
            .map(|known| ((known.row.name.clone(), known.row.created_at), Arc::clone(&known.last_use)))
            .collect();
        for row in rows {
            let last_use = uses.get(&(row.name.clone(), row.created_at)).cloned().unwrap_or_default();
            let expiry = row.expires_at.map(|at| (at, EndedBy::Expiry));
            let former = row.former.as_ref().map(|former| {
                let end = (former.until, EndedBy::Revocation);
                (former.hash.clone(), Some(expiry.filter(|(at, _)| *at < former.until).unwrap_or(end)))
            });
            let row = Arc::new(row);
            for (hash, until) in [(row.hash.clone(), expiry)].into_iter().chain(former) {
                let end = before.remove(&hash).map(|before| before.end).unwrap_or_default();
                known.insert(hash, KnownToken { row: Arc::clone(&row), until, end, last_use: Arc::clone(&last_use) });
            }
        }
        before.into_values().for_each(|before| before.end.end(EndedBy::Revocation));
        self.0.changed.notify_one();
    }

    /// Waits for the next change of the tokens.
    pub(crate) async fn changed(&self) {
        self.0.changed.notified().await;
    }

    /// Ends the secrets that are due, and returns when the next one is due. A secret that has ended
    /// remains invalid, even if the clock is set back.
    pub(crate) fn end_due(&self, now: Timestamp) -> Option<Timestamp> {
        let known = self.0.known.read().unwrap_or_else(PoisonError::into_inner);
        let mut next = None;
        for KnownToken { until, end, .. } in known.values().filter(|known| known.end.by().is_none()) {
            match until {
                Some((at, by)) if *at <= now => end.end(*by),
                Some((at, _)) => next = Some(next.map_or(*at, |next: Timestamp| next.min(*at))),
                None => {}
            }
        }
        next
    }

    /// Returns the last use of a token since the host's start, if there was one.
    pub(crate) fn last_used_at(&self, token: &Token) -> Option<Timestamp> {
        let known = self.0.known.read().unwrap_or_else(PoisonError::into_inner);
        let used = known.get(&token.hash).map(|known| known.last_use.at_ms.load(Ordering::Relaxed))?;
        Timestamp::from_millisecond(used).ok().filter(|_| used != 0)
    }

    /// Returns the uses that are not stored yet, one for each token.
    pub(crate) fn unstored_uses(&self) -> Vec<TokenUse> {
        let known = self.0.known.read().unwrap_or_else(PoisonError::into_inner);
        let uses = known.iter().filter(|(hash, known)| **hash == known.row.hash).filter_map(|(_, known)| {
            let used = known.last_use.at_ms.load(Ordering::Relaxed);
            let is_new = used != known.last_use.stored_ms.load(Ordering::Relaxed);
            let at = Timestamp::from_millisecond(used).ok().filter(|_| is_new)?;
            Some(TokenUse { name: known.row.name.clone(), created_at: known.row.created_at, at })
        });
        uses.collect()
    }

    /// Marks uses as stored.
    pub(crate) fn stored(&self, uses: &[TokenUse]) {
        let uses: HashMap<_, _> = uses.iter().map(|used| ((&*used.name, used.created_at), used.at)).collect();
        let known = self.0.known.read().unwrap_or_else(PoisonError::into_inner);
        for known in known.values() {
            if let Some(at) = uses.get(&(&*known.row.name, known.row.created_at)) {
                known.last_use.stored_ms.store(at.as_millisecond(), Ordering::Relaxed);
            }
        }
    }

    /// Returns the token that authorises the request; `None` if the route needs no token.
    pub(crate) fn check(
        &self,
        headers: &HeaderMap,
        need: &Need,
        id_of: &AppIds<'_>,
        now: Timestamp,
    ) -> Result<Option<Authorised>, Refused> {
        let Need::Role { any_of, app, all_apps } = need else { return Ok(None) };
        let KnownToken { row, until, end, last_use } = self.caller(headers)?;
        let name = || row.name.clone();
        match end.by().or(until.and_then(|(at, by)| (at <= now).then_some(by))) {
            None => {}
            Some(EndedBy::Revocation) => return Err(Refused::UnknownToken),
            Some(EndedBy::Expiry) => {
                return Err(Refused::Expired { name: name(), at: row.expires_at.unwrap_or(now) });
            }
        }
        last_use.at_ms.store(now.as_millisecond(), Ordering::Relaxed);
        let apps = apps_of(&row, id_of);
        if row.scope != Scope::All && apps.is_empty() {
            // A token is removed with its apps, also while they are being destroyed.
            return Err(Refused::UnknownToken);
        }
        if let Some(needs) = any_of.first().filter(|_| !any_of.iter().any(|needed| row.role.includes(*needed))) {
            return Err(Refused::RoleTooSmall { name: name(), has: row.role, needs: *needs });
        }
        let in_scope = match &row.scope {
            Scope::All => true,
            Scope::Apps(_) if *all_apps => false,
            Scope::Apps(_) => {
                app.as_ref().is_none_or(|app| apps.iter().any(|allowed| allowed.as_str() == app.as_str()))
            }
        };
        if in_scope {
            Ok(Some(Authorised { name: name(), row, end }))
        } else {
            Err(Refused::OutOfScope { name: name() })
        }
    }

    /// Returns whether a token is valid now, and allows its owner to read about an app. `id`
    /// returns the app's id, which an app with the same name doesn't have.
    pub(crate) fn may_read(
        &self,
        token: &str,
        app: &AppName,
        id: impl FnOnce() -> Option<String>,
        now: Timestamp,
    ) -> bool {
        let Some(KnownToken { row, until, end, last_use }) = self.known(token) else { return false };
        let has_ended = end.by().is_some() || until.is_some_and(|(at, _)| at <= now);
        let in_scope = || match &row.scope {
            Scope::All => true,
            Scope::Apps(apps) => apps.contains(app) && id().is_some_and(|id| row.app_ids.contains(&id)),
        };
        let may_read = !has_ended && row.role.includes(Role::Read) && in_scope();
        if may_read {
            last_use.at_ms.store(now.as_millisecond(), Ordering::Relaxed);
        }
        may_read
    }

    /// Returns whether the caller of an authorised request may see an app in a list.
    pub(crate) fn may_see(&self, headers: &HeaderMap, app: &AppRecord) -> bool {
        self.caller(headers)
            .is_ok_and(|KnownToken { row, .. }| row.scope == Scope::All || row.app_ids.contains(&app.id))
    }

    /// Returns whether the caller of an authorised request may see all apps.
    pub(crate) fn may_see_all(&self, headers: &HeaderMap) -> bool {
        self.caller(headers).is_ok_and(|KnownToken { row, .. }| row.scope == Scope::All)
    }

    fn caller(&self, headers: &HeaderMap) -> Result<KnownToken, Refused> {
        self.known(bearer(headers)?).ok_or(Refused::UnknownToken)
    }

    /// Looks a token up by its hash, so that the time of the comparison doesn't depend on a token.
    fn known(&self, token: &str) -> Option<KnownToken> {
        let hash = hash(token);
        self.0.known.read().unwrap_or_else(PoisonError::into_inner).get(&hash).cloned()
    }
}

/// Returns the token of a request.
pub(crate) fn bearer(headers: &HeaderMap) -> Result<&str, Refused> {
    let mut values = headers.get_all(header::AUTHORIZATION).iter();
    let value = values.next().ok_or(Refused::NoToken)?;
    if values.next().is_some() {
        return Err(Refused::SeveralTokens);
    }
    let value = value.to_str().map_err(|_| Refused::UnknownToken)?;
    let (scheme, token) = value.split_once(' ').ok_or(Refused::NoToken)?;
    if scheme.eq_ignore_ascii_case("bearer") { Ok(token.trim()) } else { Err(Refused::NoToken) }
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

    use isopod_store::FormerSecret;
    use tokio_util::sync::CancellationToken;

    use axum::http::Method;

    use super::{super::route_roles::needed, *};

    fn headers(value: &str) -> HeaderMap {
        HeaderMap::from_iter([(header::AUTHORIZATION, value.parse().expect("is a header"))])
    }

    fn tokens(role: Role, scope: Scope) -> Tokens {
        Tokens::new(vec![Token { role, scope, app_ids: vec!["id-of-mine".to_owned()], ..row("ci", "secret") }])
    }

    fn row(name: &str, secret: &str) -> Token {
        Token::new(name, hash(secret), Role::Read, Scope::All, Timestamp::UNIX_EPOCH)
    }

    async fn store(tokens: &Tokens, rows: &[Token]) {
        let Ok(()) = tokens.change(async { Ok::<_, Infallible>(rows.to_vec()) }).await;
    }

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(1_000 + second).expect("is a time")
    }

    /// Derives each app's id from its name.
    fn ids(app: &AppName) -> Option<String> {
        Some(format!("id-of-{app}"))
    }

    #[test]
    fn a_token_works_for_no_later_app_of_the_same_name() {
        let tokens = tokens(Role::Deploy, Scope::Apps(vec!["mine".parse().expect("is a name")]));
        let check =
            |path, ids: &AppIds<'_>| tokens.check(&headers("Bearer secret"), &needed(&Method::GET, path), ids, at(0));
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
        let check = |token: &str| both.check(&headers(&format!("Bearer {token}")), &need, &ids, at(0));
        let authorised = |checked: Result<Option<Authorised>, Refused>| {
            checked.expect("the token is known").expect("the route needs a token")
        };
        let (ci, ann) = (authorised(check("secret")), authorised(check("ann")));
        store(&both, &[row("ann", "ann")]).await;
        assert!(ci.end.by() == Some(EndedBy::Revocation) && ann.end.by().is_none());
        store(&both, &[row("ann", "ann"), row("ci", "ci")]).await;
        let later = authorised(both.check(&headers("Bearer ci"), &need, &ids, at(0)));
        assert!(ci.end.by().is_some() && later.end.by().is_none(), "a later token of the same name isn't affected");
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
                let is_accepted = tokens.check(&headers(&format!("Bearer {secret}")), &need, &ids, at(0)).is_ok();
                assert_eq!(is_accepted, is_stored, "{secret}");
            }
        }
    }

    fn get(tokens: &Tokens, secret: &str, now: Timestamp) -> Result<Option<Authorised>, Refused> {
        tokens.check(&headers(&format!("Bearer {secret}")), &needed(&Method::GET, "/v1/apps"), &ids, now)
    }

    #[test]
    fn a_thousand_tokens_expire_at_one_instant_and_stay_expired() {
        let name = |number: u32| format!("t{number}");
        let expiring = |number| Token { expires_at: Some(at(60)), ..row(&name(number), &name(number)) };
        let tokens = Tokens::new((0..1_000).map(expiring).chain([row("lasting", "lasting")]).collect());
        let streams: Vec<Authorised> =
            (0..1_000).filter_map(|number| get(&tokens, &name(number), at(59)).ok().flatten()).collect();
        assert_eq!((streams.len(), tokens.end_due(at(59))), (1_000, Some(at(60))));
        assert!(matches!(get(&tokens, "t7", at(60)), Err(Refused::Expired { name, .. }) if name == "t7"));
        assert_eq!(tokens.end_due(at(60)), None);
        assert!(streams.iter().all(|stream| stream.end.by() == Some(EndedBy::Expiry)));
        assert!(get(&tokens, "t7", at(-600)).is_err(), "the clock was set back");
        assert!(get(&tokens, "lasting", at(60)).is_ok());
    }

    #[tokio::test]
    async fn a_rotated_secret_is_valid_until_the_end_of_its_grace_period() {
        let tokens = Tokens::new(vec![row("ci", "old")]);
        let stream = get(&tokens, "old", at(0)).expect("it is known").expect("the route needs a token");
        let former = |secret: &str| Some(FormerSecret { hash: hash(secret), until: at(10) });
        store(&tokens, &[Token { former: former("old"), ..row("ci", "new") }]).await;
        assert!(get(&tokens, "old", at(9)).is_ok() && get(&tokens, "new", at(9)).is_ok() && stream.end.by().is_none());
        assert!(matches!(get(&tokens, "old", at(10)), Err(Refused::UnknownToken)));
        assert_eq!((tokens.end_due(at(10)), stream.end.by()), (None, Some(EndedBy::Revocation)));
        // A second rotation without a grace period ends both earlier secrets.
        store(&tokens, &[Token { former: former("new"), ..row("ci", "newer") }]).await;
        store(&tokens, &[row("ci", "newest")]).await;
        let valid = ["old", "new", "newer", "newest"].map(|secret| get(&tokens, secret, at(1)).is_ok());
        assert_eq!(valid, [false, false, false, true]);
    }

    #[tokio::test]
    async fn the_last_use_of_a_token_outlasts_a_rotation_and_is_stored_once() {
        let tokens = Tokens::new(vec![row("ci", "old"), row("ann", "ann")]);
        assert!(get(&tokens, "old", at(5)).is_ok() && tokens.last_used_at(&row("ci", "old")) == Some(at(5)));
        store(&tokens, &[row("ci", "new"), row("ann", "ann")]).await;
        assert_eq!(tokens.last_used_at(&row("ci", "new")), Some(at(5)));
        let uses = tokens.unstored_uses();
        assert_eq!(uses, [TokenUse { name: "ci".to_owned(), created_at: Timestamp::UNIX_EPOCH, at: at(5) }]);
        tokens.stored(&uses);
        assert_eq!(tokens.unstored_uses(), []);
        let later = Token { created_at: at(9), ..row("ci", "later") };
        store(&tokens, std::slice::from_ref(&later)).await;
        assert_eq!(tokens.last_used_at(&later), None, "a later token has the same name");
    }

    #[test]
    fn a_token_is_missing_unknown_or_too_small() {
        let tokens = tokens(Role::Read, Scope::All);
        let read = needed(&Method::GET, "/v1/apps");
        let push = needed(&Method::POST, "/v1/apps/x/pushes");
        assert!(matches!(tokens.check(&HeaderMap::new(), &read, &ids, at(0)), Err(Refused::NoToken)));
        assert!(matches!(tokens.check(&headers("Bearer guess"), &read, &ids, at(0)), Err(Refused::UnknownToken)));
        assert!(matches!(
            tokens.check(&headers("Bearer secret"), &push, &ids, at(0)),
            Err(Refused::RoleTooSmall { .. })
        ));
        assert!(tokens.check(&headers("bearer secret"), &read, &ids, at(0)).is_ok());
        let mut twice = headers("Bearer secret");
        twice.append(header::AUTHORIZATION, header::HeaderValue::from_static("Bearer secret"));
        assert!(matches!(tokens.check(&twice, &read, &ids, at(0)), Err(Refused::SeveralTokens)));
    }

    #[test]
    fn a_token_for_some_apps_reaches_no_other() {
        let tokens = tokens(Role::Deploy, Scope::Apps(vec!["mine".parse().expect("is a name")]));
        let check = |method, path| tokens.check(&headers("Bearer secret"), &needed(&method, path), &ids, at(0)).is_ok();
        assert!(check(Method::POST, "/v1/apps/mine/pushes"));
        assert!(!check(Method::POST, "/v1/apps/other/pushes"));
        assert!(!check(Method::POST, "/v1/apps"));
        assert!(check(Method::GET, "/v1/apps"));
    }

    #[test]
    fn a_token_reads_apps_in_scope_until_it_expires() {
        let (mine, other): (AppName, AppName) = ("mine".parse().expect("a name"), "other".parse().expect("a name"));
        let reads = |tokens: &Tokens, token: &str, app: &AppName| tokens.may_read(token, app, || ids(app), at(0));
        let for_all = tokens(Role::Read, Scope::All);
        assert!(reads(&for_all, "secret", &other) && !reads(&for_all, "guess", &other));
        let for_mine = tokens(Role::Deploy, Scope::Apps(vec![mine.clone()]));
        assert!(reads(&for_mine, "secret", &mine) && !reads(&for_mine, "secret", &other));
        assert!(!for_mine.may_read("secret", &mine, || None, at(0)), "the app was destroyed");
        let expiring = Tokens::new(vec![Token { expires_at: Some(at(60)), ..row("ci", "ci") }]);
        let reads_at = |seconds| expiring.may_read("ci", &mine, || ids(&mine), at(seconds));
        assert!(reads_at(59) && !reads_at(60));
    }

    #[test]
    fn tokens_are_long_and_differ() {
        assert!(new_token().len() > 64);
        assert_ne!(new_token(), new_token());
    }
}
