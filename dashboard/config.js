// The config vars of an app. The host never returns the value of a secret.

import { html } from "./lib.js";
import { call, ofApp } from "./api.js";
import { useAction, usePoll } from "./hooks.js";
import { ActionResult, ConfirmButton, Loading, Table } from "./ui.js";

export function Config({ app, may }) {
  const polled = usePoll(`config ${app}`, (options) => call(ofApp(app, "/config?effective=true"), options), 10_000);
  const action = useAction(polled.reload);
  const patch = (body, note) => action.run(async () => {
    await call(ofApp(app, "/config"), { method: "PATCH", body });
    return note;
  });
  const set = async (event) => {
    event.preventDefault();
    const form = event.currentTarget;
    const { key, value, secret } = Object.fromEntries(new FormData(form));
    if (await patch({ [key]: secret ? { secret: value } : value }, `${key} is set.`)) form.reset();
  };
  const columns = [
    { name: "Name", cell: (it) => html`<code>${it.key}</code>` },
    { name: "Value", wide: true, cell: (it) => (it.secret ? html`<span class="quiet">secret, hidden</span>`
        : html`<code>${it.value}</code>`) },
    { name: "Source", cell: (it) => it.source },
    ...(may("deploy") ? [{ name: "Unset", cell: (it) => it.source !== "manifest" && html`<${ConfirmButton} label="Unset"
        name=${`Unset ${it.key}`} title=${`Unset ${it.key}?`} danger disabled=${action.busy}
        act=${() => patch({ [it.key]: null }, `${it.key} is unset.`)}>
        <p>The change creates a release, which serves once its health checks pass.</p><//>` }] : []),
  ];
  return html`<${Loading} of=${polled} />
    ${polled.data && html`<${Table} caption=${`Config vars of ${app}`} columns=${columns} rows=${polled.data.items}
      keyOf=${(it) => it.key} empty="No config vars." />`}
    ${may("deploy") && html`<form class="panel" onSubmit=${set}>
      <h3>Set a config var</h3>
      <p class="quiet">Each change creates a release, which serves once its health checks pass.</p>
      <div class="row">
        <label class="field"><span>Name</span>
          <input name="key" required autocomplete="off" spellcheck=${false} /></label>
        <label class="field"><span>Value</span><input name="value" autocomplete="off" spellcheck=${false} /></label>
        <label class="check"><input type="checkbox" name="secret" /> Secret</label>
        <button type="submit" class="primary" disabled=${action.busy}>Set</button>
      </div>
    </form>`}
    <${ActionResult} action=${action} />`;
}
