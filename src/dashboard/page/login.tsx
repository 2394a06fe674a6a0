/** Log-in with a key. The page never keeps it: the node gives the browser a cookie that no script can read. */
import { ask, whoAmI } from "./api.ts";
import { Field, Form } from "./parts.tsx";

export function Login() {
  return (
    <main class="login">
      <section class="card">
        <div class="brand"><img src="/dashboard/icon.svg" alt="" width="32" height="32" />flux-gateway</div>
        <h1>Log in</h1>
        <p class="dim">With the admin key of this node (<code>--admin-key</code>), or an API key of scope <code>admin</code> for all tenants.</p>
        <Form label="Log in" onSend={async ({ key }) => {
          await ask("login", { method: "POST", body: { key } });
          await whoAmI();
        }}>
          <Field label="Key" name="key" type="password" required autofocus autocomplete="current-password" />
        </Form>
      </section>
    </main>
  );
}
