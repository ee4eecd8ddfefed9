// Looks at the dashboard with a real browser and prints what it saw as JSON: dashboard.cjs URL ARTIFACTS [PASSWORD].
// tests/e2e/test_dashboard.py starts it, keeps traffic going meanwhile, and judges.
"use strict";
const path = require("path");
const { chromium } = require(path.join(process.env.WEIR_NODE, "node_modules", "playwright-core"));
const [url, artifacts, password] = process.argv.slice(2);

const seen = { console: [], errors: [], requests: [] };

async function open(browser, options) {
  const context = await browser.newContext({ ...(password ? { httpCredentials: { username: "anybody", password } } : {}), ...options });
  const page = await context.newPage();
  page.setDefaultTimeout(60000);
  page.on("console", (message) => { if (["error", "warning"].includes(message.type())) seen.console.push(message.text()); });
  page.on("pageerror", (error) => seen.errors.push(error.message));
  page.on("request", (request) => seen.requests.push(request.url()));
  await page.goto(url);
  return { context, page };
}

const table = (page, selector) => page.$$eval(`${selector} tr`, (rows) => rows.map((row) => [...row.children].map((cell) => cell.innerText.trim())));
const background = (page) => page.evaluate(() => [getComputedStyle(document.body).backgroundColor, getComputedStyle(document.body).color]);
const curve = (page, name) => page.$eval(`[data-chart=${name}] .curve.c1`, (path) => path.getAttribute("d"));

// Waits until a number is above 0; the text that was.
async function textAboveZero(page, selector) {
  const handle = await page.waitForFunction((at) => {
    const text = document.querySelector(at).textContent;
    return Number.parseFloat(text) > 0 && text;
  }, selector);
  return handle.jsonValue();
}

async function desktop(browser) {
  const { context, page } = await open(browser, { viewport: { width: 1280, height: 900 }, colorScheme: "light" });
  const found = { title: await page.title() };
  await page.waitForSelector("[data-chart=requests] .curve");
  found.firstCurve = await curve(page, "requests");
  await page.waitForFunction((before) => {
    const now = document.querySelector("[data-chart=requests] .curve.c1").getAttribute("d");
    return now.split("L").length >= before.split("L").length + 2;
  }, found.firstCurve);
  found.laterCurve = await curve(page, "requests");
  found.charts = await page.$$eval("[data-chart] svg", (all) => all.map((svg) => svg.querySelectorAll(".curve").length));
  found.tile = await textAboveZero(page, "[data-now=requests]");

  const users = "tr[data-key='route users']";
  const total = () => page.$eval(`${users} [data-total]`, (cell) => Number(cell.dataset.total));
  found.firstTotal = await total();
  await page.waitForFunction((before) => Number(document.querySelector("tr[data-key='route users'] [data-total]").dataset.total) > before, found.firstTotal);
  found.rate = await textAboveZero(page, `${users} td.rate`);
  found.routes = await table(page, "#routes-table");
  found.targets = await table(page, "#targets-live");
  found.certificates = await table(page, "#certificates-live");
  found.errors = await table(page, "#errors-table");
  found.reloads = await table(page, "#reloads-table");
  found.strips = await page.$$eval(".strip rect", (all) => all.map((rect) => rect.getAttribute("class")));
  found.state = await page.innerText("#state");

  // what the user has opened stays open, and in focus, when newer tables come
  await page.click("#targets-live details summary");
  await page.evaluate(() => { window.marked = document.querySelector("#targets-live table"); });
  await page.waitForFunction(() => !window.marked.isConnected);
  found.staysOpen = await page.$eval("#targets-live details", (details) => details.open);
  found.staysFocused = await page.evaluate(() => document.activeElement.tagName);

  await page.fill("#explain-form [name=url]", "http://api.example.com/users/1?x=1");
  await page.fill("#explain-form [name=headers]", "x-a: 1\nx-b: 2");
  await page.selectOption("#explain-form [name=method]", "POST");
  await page.click("#explain-form button");
  await page.waitForSelector(".verdict");
  found.verdict = await page.innerText(".verdict");
  found.steps = await page.$$eval(".steps li", (all) => all.map((step) => step.innerText));
  await page.screenshot({ path: path.join(artifacts, "dashboard-light.png"), fullPage: true });
  await page.fill("#explain-form [name=headers]", "nonsense");
  await page.click("#explain-form button");
  found.problem = await page.innerText("#explain-result .problem");
  await page.fill("#explain-form [name=headers]", "");
  const before = seen.console.length; // a browser logs every request that fails
  await page.fill("#explain-form [name=ip]", "nonsense");
  await page.click("#explain-form button");
  await page.waitForFunction(() => /ip must be/.test(document.querySelector("#explain-result").textContent));
  found.refusal = seen.console.splice(before);

  await page.hover("[data-chart=requests] svg", { position: { x: 500, y: 60 } });
  await page.waitForSelector("[data-chart=requests] .cursor", { state: "attached" }); // a line has no width
  found.light = await background(page);
  await page.emulateMedia({ colorScheme: "dark" });
  found.dark = await background(page);
  await page.screenshot({ path: path.join(artifacts, "dashboard-dark.png"), fullPage: true });
  found.smuggled = await page.evaluate(() => window.smuggled ?? null);

  found.complainsWhileUp = await page.isVisible("#connection");
  await context.setOffline(true);
  await page.waitForSelector("#connection:not([hidden])");
  await context.setOffline(false);
  await page.waitForSelector("#connection", { state: "hidden" });
  found.offline = seen.console.splice(before);
  await context.close();
  return found;
}

async function phone(browser) {
  const found = {};
  for (const width of [320, 390]) {
    const { context, page } = await open(browser, { viewport: { width, height: 844 }, isMobile: true, hasTouch: true });
    await page.waitForSelector("[data-chart=requests] .curve");
    found[width] = await page.evaluate(() => [document.documentElement.scrollWidth, window.innerWidth]);
    found.menu = await page.isVisible("nav a[href='#errors']");
    await page.screenshot({ path: path.join(artifacts, `dashboard-phone-${width}.png`), fullPage: true });
    await context.close();
  }
  return found;
}

async function withoutScript(browser) {
  const { context, page } = await open(browser, { javaScriptEnabled: false });
  const found = { text: await page.innerText("main"), form: await page.isVisible("#explain-form"), charts: await page.isVisible(".charts") };
  await page.click("#config summary");
  found.config = await page.innerText("#config pre");
  await context.close();
  return found;
}

(async () => {
  const args = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync"];
  const browser = await chromium.launch({ executablePath: process.env.WEIR_CHROMIUM || "/usr/bin/chromium", args }); // an empty profile of its own
  const found = { desktop: await desktop(browser) };
  if (!password) Object.assign(found, { phone: await phone(browser), plain: await withoutScript(browser) });
  await browser.close();
  process.stdout.write(JSON.stringify({ ...found, ...seen }));
})().catch((error) => {
  process.stderr.write(`${error.stack}\n${JSON.stringify(seen.console)} ${JSON.stringify(seen.errors)}\n`);
  process.exit(1);
});
