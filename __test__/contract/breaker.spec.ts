import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { Breaker, PROBE_INTERVAL } from '../../ts/workstation/breaker'
import { random } from '../helpers/random'

const MIN_OPEN = 1000

describe('A breaker', () => {
  it('opens after three failures in a row, not after two', () => {
    const breaker = new Breaker(MIN_OPEN)
    assert.equal(breaker.failed(0), false)
    assert.equal(breaker.failed(1), false)
    breaker.succeeded(2)
    assert.equal(breaker.failed(3), false)
    assert.equal(breaker.failed(4), false)
    assert.equal(breaker.failed(5), true)
    assert.equal(breaker.state(5), 'open')
  })

  it('opens when half of at least twenty calls of ten seconds failed', () => {
    const breaker = new Breaker(MIN_OPEN)
    let opened = false
    for (let call = 0; call < 19; call += 1) {
      if (call % 2 === 0) opened ||= breaker.failed(call * 100)
      else breaker.succeeded(call * 100)
    }
    assert.equal(opened, false)
    breaker.succeeded(1900)
    assert.equal(breaker.failed(2000), true)
  })

  it('forgets what is older than ten seconds', () => {
    const breaker = new Breaker(MIN_OPEN)
    for (let call = 0; call < 18; call += 1) {
      breaker.failed(0)
      breaker.succeeded(0)
      if (breaker.state(0) !== 'closed') breaker.close()
    }
    for (let call = 0; call < 30; call += 1) breaker.succeeded(15_000)
    assert.equal(breaker.failed(15_001), false)
  })

  it('lets one probe through when its time has come, and nobody else', () => {
    const breaker = new Breaker(MIN_OPEN, () => 0.5)
    breaker.trip(0)
    assert.equal(breaker.mayProbe(799), false)
    assert.equal(breaker.mayProbe(800), true)
    assert.equal(breaker.mayProbe(801), false)
    breaker.probeFailed(900)
    assert.equal(breaker.mayProbe(900 + PROBE_INTERVAL - 1), false)
    assert.equal(breaker.mayProbe(900 + PROBE_INTERVAL), true)
    breaker.close()
    assert.equal(breaker.state(2000), 'closed')
  })

  it('from whatever happened, one probe at a time, and closed after the first that succeeds', () => {
    const dice = random(7)
    const chance = (): number => dice.below(1_000_000) / 1_000_000
    for (let run = 0; run < 2000; run += 1) {
      const breaker = new Breaker(MIN_OPEN, chance)
      let now = 0
      let probing = false
      for (let step = 0; step < 60; step += 1) {
        now += chance() * 400
        const event = chance()
        if (event < 0.4) breaker.failed(now)
        else if (event < 0.5) breaker.succeeded(now)
        else if (event < 0.8) {
          const may = breaker.mayProbe(now)
          assert.ok(!(may && probing), 'two probes at once')
          probing ||= may
        } else if (probing) {
          probing = false
          breaker.probeFailed(now)
        }
      }
      if (probing) breaker.probeFailed(now)
      // The server is well from here on: what is the latest that this is noticed?
      const since = now
      while (breaker.state(now) !== 'closed') {
        now += 10
        if (breaker.mayProbe(now)) breaker.close()
      }
      assert.ok(now - since <= Math.max(MIN_OPEN, 2 * PROBE_INTERVAL), `${now - since} ms`)
    }
  })
})
