/** Certificates of the test's own, made by openssl in a temporary folder. */
import { execFileSync } from 'node:child_process'
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'

const DAYS = '2'

export class Certificates {
  readonly folder = mkdtempSync(join(tmpdir(), 'ferroflow-tls-'))
  /** The authority that signed the others. */
  readonly ca: string
  readonly clientCert: string
  readonly clientKey: string

  constructor() {
    this.#run('req', '-x509', ...newKey('ca'), '-days', DAYS, '-subj', '/CN=test authority', '-out', 'ca.crt')
    this.#sign('server', 'subjectAltName=DNS:localhost,IP:127.0.0.1')
    this.#sign('client', 'extendedKeyUsage=clientAuth')
    this.ca = this.#read('ca.crt')
    this.clientCert = this.#read('client.crt')
    this.clientKey = this.#read('client.key')
  }

  path(name: string): string {
    return join(this.folder, name)
  }

  /** Arguments for a redis-server that also listens with TLS. */
  serverArguments(port: number): string[] {
    const files = { cert: 'server.crt', key: 'server.key', 'ca-cert': 'ca.crt' }
    return [
      ...Object.entries(files).flatMap(([option, file]) => [`--tls-${option}-file`, this.path(file)]),
      '--tls-port',
      String(port),
      '--tls-auth-clients',
      'no',
    ]
  }

  remove(): void {
    rmSync(this.folder, { recursive: true, force: true })
  }

  #sign(name: string, extensions: string): void {
    writeFileSync(this.path(`${name}.ext`), extensions)
    this.#run('req', ...newKey(name), '-subj', `/CN=${name}`, '-out', `${name}.csr`)
    const authority = ['-CA', 'ca.crt', '-CAkey', 'ca.key', '-CAcreateserial']
    const files = ['-in', `${name}.csr`, '-out', `${name}.crt`, '-extfile', `${name}.ext`]
    this.#run('x509', '-req', ...authority, ...files, '-days', DAYS)
  }

  #run(...args: string[]): void {
    execFileSync('openssl', args, { cwd: this.folder, stdio: ['ignore', 'ignore', 'pipe'] })
  }

  #read(name: string): string {
    return readFileSync(this.path(name), 'utf8')
  }
}

function newKey(name: string): string[] {
  return ['-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:prime256v1', '-nodes', '-keyout', `${name}.key`]
}
