/**
 * Shows executions and how far they are. The stream is read with `fetch`, since an EventSource cannot send an
 * Authorization header, and a token does not belong into the URL of a request.
 */
import { readEvents } from './events.js'

// Relative, as a proxy may have this page under another path.
const API = 'api/workflow-state'
const RETRY_MS = 2000

const notice = document.querySelector('#notice')
const list = document.querySelector('#executions')
const template = document.querySelector('#execution')

/** Behind the # nothing is sent to the server. It goes from there into this tab alone. */
function readToken() {
  const given = new URLSearchParams(location.hash.slice(1)).get('token')
  if (given !== null) {
    sessionStorage.setItem('token', given)
    history.replaceState(null, '', location.pathname)
  }
  return sessionStorage.getItem('token')
}

const token = readToken()

function call(path, options = {}) {
  return fetch(path, { ...options, headers: { ...options.headers, authorization: `Bearer ${token}` } })
}

function tell(text) {
  notice.textContent = text
}

function addRow(executionId) {
  const row = template.content.cloneNode(true).firstElementChild
  row.dataset.execution = executionId
  row.querySelector('code').textContent = executionId
  list.prepend(row)
  return row
}

function show(row, { progress, status, currentStep, error }) {
  row.dataset.status = status
  row.querySelector('progress').value = progress
  row.querySelector('output').textContent =
    status === 'running' ? `${progress} % – ${currentStep}` : [status, error].filter(Boolean).join(': ')
}

/** Follows an execution until it has ended, and goes on after an interruption with what comes next. */
async function follow(executionId) {
  const row = addRow(executionId)
  let lastId
  for (;;) {
    try {
      const headers = lastId === undefined ? {} : { 'last-event-id': lastId }
      const response = await call(`${API}/${encodeURIComponent(executionId)}/stream`, { headers })
      if (response.status === 204 || (response.status >= 400 && response.status < 500)) return
      if (response.ok)
        for await (const { id, event, data } of readEvents(response.body)) {
          if (event === 'end') return
          lastId = id
          show(row, JSON.parse(data))
        }
    } catch {
      // The server is gone, or the network. The loop tries again.
    }
    row.dataset.interruptions = String(Number(row.dataset.interruptions ?? 0) + 1)
    await new Promise((resolve) => setTimeout(resolve, RETRY_MS))
  }
}

async function start() {
  const response = await call('api/albums', {
    method: 'POST',
    headers: { 'content-type': 'application/json' },
    body: JSON.stringify({ photos: 24 }),
  })
  const answer = await response.json()
  if (response.ok) void follow(answer.executionId)
  else tell(answer.error)
}

async function showActive() {
  const response = await call(`${API}/active/list`)
  const answer = await response.json()
  if (!response.ok) return tell(`${answer.error}. Open the address that the server has printed.`)
  for (const executionId of answer.activeExecutions) void follow(executionId)
  const button = document.querySelector('#start')
  button.addEventListener('click', () => void start())
  button.disabled = false
}

void showActive()
