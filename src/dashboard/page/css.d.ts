/** esbuild collects them in app.css. */
declare module "*.css";
