// The dashboard: signs a person in, and shows the view that the URL names.

import { html, render, useEffect, useState } from "./lib.js";
import { hasSession, session, signIn, signOut, whenSignedOut } from "./api.js";
import { AlertBanner, AlertsPage } from "./alerts.js";
import { AppPage } from "./app-page.js";
import { Audit } from "./audit.js";
import { Overview } from "./overview.js";
import { useRoute } from "./route.js";
import { ProblemBox } from "./ui.js";

const THEME = "isopod.theme";
const THEMES = ["system", "light", "dark"];

// The roles that include another. A token of the role `send` can show nothing.
const INCLUDES = {
  read: ["read"],
  operate: ["read", "operate"],
  deploy: ["read", "operate", "deploy"],
  admin: ["read", "operate", "deploy", "admin"],
};

function useTheme() {
  const [theme, setTheme] = useState(() => localStorage.getItem(THEME) ?? "system");
  useEffect(() => {
    localStorage.setItem(THEME, theme);
    document.documentElement.dataset.theme = theme;
    dispatchEvent(new Event("themechange"));
  }, [theme]);
  return [theme, setTheme];
}

function SignIn({ message, done }) {
  const [problem, setProblem] = useState(null);
  const [busy, setBusy] = useState(false);
  const submit = async (event) => {
    event.preventDefault();
    setBusy(true);
    setProblem(null);
    try {
      done(await signIn(new FormData(event.currentTarget).get("token")));
    } catch (failed) {
      setProblem(failed);
      setBusy(false);
    }
  };
  return html`<main id="main" class="sign-in">
    <h1>Sign in</h1>
    ${message && html`<p role="status">${message}</p>`}
    <form onSubmit=${submit}>
      <label class="field"><span>Token</span>
        <input type="password" name="token" required autocomplete="current-password" autofocus
          aria-describedby="token-help" /></label>
      <p id="token-help" class="quiet">The administrator's token is in the file <code>admin.token</code> in the host's
        data folder. <code>isopod tokens create NAME --role read</code> creates one that can only read.</p>
      <${ProblemBox} problem=${problem} />
      <button type="submit" class="primary" disabled=${busy}>Sign in</button>
    </form>
  </main>`;
}

function Header({ token, theme, setTheme, leave }) {
  return html`<header>
    <a class="skip" href="#main" onClick=${toMain}>Skip to the content</a>
    <nav class="row" aria-label="Pages">
      <a class="home" href="#/">Isopod</a>
      ${token && html`<a href="#/alerts">Alerts</a>`}
      ${token && token.apps === null && html`<a href="#/audit">Audit trail</a>`}
    </nav>
    <div class="row">
      <label class="theme"><span class="unseen">Theme</span>
        <select value=${theme} onChange=${(event) => setTheme(event.currentTarget.value)}>
          ${THEMES.map((one) => html`<option value=${one}>${one}</option>`)}
        </select></label>
      ${token && html`<span class="quiet name">${token.name} · ${token.role}</span>
        <button type="button" onClick=${leave}>Sign out</button>`}
    </div>
  </header>`;
}

// The part of the URL after # names the view, so the link moves the focus itself.
function toMain(event) {
  event.preventDefault();
  const main = document.getElementById("main");
  main.tabIndex = -1;
  main.focus();
}

function View({ route, token }) {
  const may = (role) => (INCLUDES[token.role] ?? []).includes(role);
  const [place, name, view] = route.parts;
  useEffect(() => {
    document.title = titleOf(place, name, view);
    scrollTo(0, 0);
  }, [place, name, view]);
  if (!may("read")) {
    return html`<main id="main"><h1>Nothing to show</h1>
      <p>The token <code>${token.name}</code> has the role <code>${token.role}</code>. The dashboard needs the role
        <code>read</code>.</p></main>`;
  }
  if (place === "alerts") return html`<${AlertsPage} />`;
  if (place === "audit") return html`<${AlertBanner} /><${Audit} query=${route.query} />`;
  return html`<${AlertBanner} />
    ${place === "apps" && name
      ? html`<${AppPage} key=${name} name=${name} view=${view} query=${route.query} may=${may} />`
      : html`<${Overview} query=${route.query} />`}`;
}

function titleOf(place, name, view) {
  if (place === "alerts") return "Alerts · Isopod";
  if (place === "audit") return "Audit trail · Isopod";
  return name ? `${name} · ${view ?? "load"} · Isopod` : "Isopod";
}

function Dashboard() {
  const route = useRoute();
  const [theme, setTheme] = useTheme();
  const [token, setToken] = useState(null);
  const [problem, setProblem] = useState(null);
  const [message, setMessage] = useState(null);
  const [signedIn, setSignedIn] = useState(hasSession);
  useEffect(() => {
    whenSignedOut((text) => {
      setSignedIn(false);
      setToken(null);
      setMessage(text);
    });
  }, []);
  useEffect(() => {
    if (!signedIn || token !== null) return undefined;
    let timer;
    const ask = () => session().then(setToken, (failed) => {
      setProblem(failed);
      timer = setTimeout(ask, 2000);
    });
    ask();
    return () => clearTimeout(timer);
  }, [signedIn, token]);
  const entered = (found) => {
    setToken(found);
    setProblem(null);
    setMessage(null);
    setSignedIn(true);
  };
  return html`<${Header} token=${token} theme=${theme} setTheme=${setTheme} leave=${signOut} />
    ${!signedIn && html`<${SignIn} message=${message} done=${entered} />`}
    ${signedIn && token === null && html`<main id="main"><p class="empty" role="status">Connecting…</p>
      <${ProblemBox} problem=${problem} /></main>`}
    ${signedIn && token !== null && html`<${View} route=${route} token=${token} />`}`;
}

render(html`<${Dashboard} />`, document.getElementById("root"));
