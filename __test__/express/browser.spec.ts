/** The page of the example application, in a real browser. */
import assert from 'node:assert/strict'
import { after, before, describe, it } from 'node:test'
import type { Browser, Page } from 'playwright-core'
import { createWorkstation } from '../../index.js'
import { browserSkipReason, openBrowser } from '../helpers/browser'
import { ExpressApp } from '../helpers/express-app'
import { stripping } from '../helpers/http'
import { findFreePort, RedisServer } from '../helpers/redis-server'
import { deferred, until } from '../helpers/wait'

describe('the page of the example application', { skip: browserSkipReason }, () => {
  let redis: RedisServer
  let app: ExpressApp
  let browser: Browser
  let port: number
  const env = (): Record<string, string> => ({ PORT: String(port) })
  before(async () => {
    port = await findFreePort()
    redis = await RedisServer.start()
    app = await ExpressApp.start(redis, env())
    browser = await openBrowser()
  })
  after(async () => {
    await browser?.close()
    await app?.[Symbol.asyncDispose]()
    await redis?.stop()
  })

  /** A tab of its own, and everything that it complained about. */
  async function open(url: string): Promise<{ page: Page; complaints: string[] }> {
    const page = await browser.newPage()
    const complaints: string[] = []
    page.on('pageerror', (error) => complaints.push(String(error)))
    page.on('console', (message) => {
      if (message.type() === 'error') complaints.push(message.text())
    })
    await page.goto(url)
    return { page, complaints }
  }

  it('shows progress while it happens', async () => {
    const { page, complaints } = await open(`${app.url}/#token=${app.token}`)
    await page.click('#start')
    assert.equal(page.url(), `${app.url}/`, 'the token is taken out of the address')
    const seen = new Set<number>()
    await until(
      'it is completed',
      async () => {
        const bar = page.locator('li progress')
        if ((await bar.count()) === 1)
          seen.add(await bar.evaluate((one) => (one as unknown as { value: number }).value))
        return (await page.locator('li[data-status=completed]').count()) === 1
      },
      20_000,
    )
    assert.ok(seen.size >= 3, `${[...seen]}`)
    assert.equal(await page.locator('li output').textContent(), 'completed')
    assert.deepEqual(complaints, [])
    await page.close()
  })

  it('shows what other processes do, and ids and texts as they are', async () => {
    const workstation = createWorkstation({ redis: redis.url, log: false })
    const id = '<img src=x onerror=alert(1)>'
    await workstation.startWorkflowTracking(id, 'w', 4)
    const { page, complaints } = await open(`${app.url}/#token=${app.token}`)
    const row = page.locator('li', { hasText: 'onerror' })
    await row.waitFor()
    await workstation.updateWorkflowProgress(id, 1, '<b>quarter</b>')
    await page.locator('output', { hasText: '25 % – <b>quarter</b>' }).waitFor()
    assert.equal(await page.locator('li img, li b').count(), 0)
    await workstation.completeWorkflowTracking(id, 'failed', 'no disk')
    await page.locator('output', { hasText: 'failed: no disk' }).waitFor()
    assert.deepEqual(complaints, [])
    await workstation.close()
    await page.close()
  })

  it('goes on by itself after the server was away', async () => {
    const workstation = createWorkstation({ redis: redis.url, log: false })
    await workstation.startWorkflowTracking('long', 'w', 4)
    const { page } = await open(`${app.url}/#token=${app.token}`)
    await page.locator('li[data-execution=long][data-status=running]').waitFor()
    await app[Symbol.asyncDispose]()
    await workstation.updateWorkflowProgress('long', 3, 'meanwhile')
    await page.locator('li[data-execution=long][data-interruptions]').waitFor()
    app = await ExpressApp.start(redis, env())
    await page.locator('output', { hasText: '75 % – meanwhile' }).waitFor()
    await workstation.close()
    await page.close()
  })

  it('lets nobody click before a click does something', async () => {
    const page = await browser.newPage()
    const asked = deferred()
    const answered = deferred()
    await page.route('**/active/list', async (route) => {
      asked.resolve()
      await answered.promise
      await route.continue()
    })
    await page.goto(`${app.url}/#token=${app.token}`)
    await asked.promise
    assert.ok(await page.locator('#start').isDisabled())
    answered.resolve()
    await page.locator('#start:enabled').waitFor()
    await page.close()
  })

  it('says that it needs a token', async () => {
    const { page } = await open(app.url)
    await page.locator('#notice', { hasText: 'Invalid or expired token' }).waitFor()
    await page.close()
  })

  it('works behind a proxy that strips a prefix', async () => {
    await using proxy = await stripping(port)
    const { page, complaints } = await open(`${proxy.url}/public/#token=${app.token}`)
    await page.click('#start')
    await page.locator('li[data-status=completed]').waitFor()
    assert.deepEqual(complaints, [])
    await page.close()
  })
})
