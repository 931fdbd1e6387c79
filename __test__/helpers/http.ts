/** HTTP over real sockets: servers on free ports, and requests that may be as wrong as a test wants them. */
import { once } from 'node:events'
import { createServer, request as openRequest, type RequestListener, type Server } from 'node:http'
import { type AddressInfo, connect } from 'node:net'
import express5 from 'express'
import express4 from 'express-4'
import type { HttpHandler } from '../../express.js'

export class HttpServer implements AsyncDisposable {
  readonly url: string
  readonly port: number
  readonly #server: Server

  private constructor(server: Server) {
    this.#server = server
    this.port = (server.address() as AddressInfo).port
    this.url = `http://127.0.0.1:${this.port}`
  }

  static async start(listener: RequestListener): Promise<HttpServer> {
    const server = createServer(listener)
    // As many as a test wants may arrive at once.
    server.listen({ port: 0, host: '127.0.0.1', backlog: 2000 })
    await once(server, 'listening')
    return new HttpServer(server)
  }

  async stop(): Promise<void> {
    this.#server.closeAllConnections()
    this.#server.close()
    await once(this.#server, 'close')
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.stop()
  }

  /** Sends bytes as they are, and nothing more; returns everything that is answered. */
  async raw(text: string | Buffer): Promise<string> {
    const socket = connect(this.port, '127.0.0.1')
    let answer = ''
    socket.on('data', (chunk) => (answer += chunk.toString()))
    socket.on('error', () => undefined)
    socket.end(text)
    await once(socket, 'close')
    return answer
  }
}

/** A server on which handlers are mounted under a path. */
export type Framework = (path: string, ...handlers: HttpHandler[]) => RequestListener

/** Everything that the handlers run in. */
export const FRAMEWORKS: Record<string, Framework> = {
  'Express 5': (path, ...handlers) => {
    const app = express5()
    for (const handler of handlers) app.use(path, handler)
    return app
  },
  'Express 4': (path, ...handlers) => {
    const app = express4()
    for (const handler of handlers) app.use(path, handler)
    return app
  },
  'node:http': (path, ...handlers) => {
    const mounted = path === '/' ? '' : path
    return (incoming, response) => {
      const { url = '/' } = incoming
      if (url.startsWith(`${mounted}/`)) incoming.url = url.slice(mounted.length)
      const run = ([handler, ...rest]: HttpHandler[]): void =>
        handler?.(incoming, response, rest.length === 0 ? undefined : () => run(rest))
      run(handlers)
    }
  },
}

export interface Answer {
  status: number
  headers: Headers
  /** Parsed, if it is JSON and there is any. */
  body: any
}

export async function request(url: string, init: RequestInit = {}): Promise<Answer> {
  const response = await fetch(url, init)
  const text = await response.text()
  const isJson = response.headers.get('content-type')?.startsWith('application/json') === true
  return {
    status: response.status,
    headers: response.headers,
    body: isJson && text !== '' ? JSON.parse(text) : text,
  }
}

/** A proxy that forwards what comes below `/public` without that prefix, as reverse proxies are told to. */
export function stripping(port: number): Promise<HttpServer> {
  return HttpServer.start((incoming, response) => {
    const { method, headers, url = '' } = incoming
    const path = url.replace(/^\/public(?=\/|$)/, '') || '/'
    const outgoing = openRequest({ port, host: '127.0.0.1', method, path, headers }, (answer) => {
      response.writeHead(answer.statusCode ?? 502, answer.headers)
      answer.pipe(response)
    })
    response.on('close', () => outgoing.destroy())
    outgoing.on('error', () => response.destroy())
    incoming.pipe(outgoing)
  })
}
