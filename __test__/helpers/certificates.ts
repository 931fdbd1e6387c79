/** Certificates of the test's own, made by openssl in a temporary folder. */
import { execFileSync } from 'node:child_process'
import { X509Certificate, createPrivateKey } from 'node:crypto'
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'

const DAYS = '2'
/** Ended before it began: `-days` of openssl takes no past. */
const EXPIRED = ['-days', '-1']

/** What is in a certificate of a server. */
export interface Issued {
  /** Names and addresses, as openssl writes them: `DNS:localhost,IP:127.0.0.1`. */
  subject: string
  /** Its time is over. Default: false */
  expired?: boolean
  /** Whose authority signs it. Default: its own */
  by?: Certificates
}

export class Certificates {
  readonly folder = mkdtempSync(join(tmpdir(), 'ferroflow-tls-'))
  /** The authority that signed the others. */
  readonly ca: string
  readonly clientCert: string
  readonly clientKey: string

  constructor() {
    this.#run('req', '-x509', ...newKey('ca'), '-days', DAYS, '-subj', '/CN=test authority', '-out', 'ca.crt')
    this.issue('server', { subject: 'DNS:localhost,IP:127.0.0.1' })
    this.#sign('client', 'extendedKeyUsage=clientAuth')
    this.ca = this.#read('ca.crt')
    this.clientCert = this.#read('client.crt')
    this.clientKey = this.#read('client.key')
  }

  path(name: string): string {
    return join(this.folder, name)
  }

  /** Makes `{name}.crt` and `{name}.key` for a server, in place of those that there are. */
  issue(name: string, { subject, expired = false, by = this }: Issued): void {
    this.#sign(name, `subjectAltName=${subject}`, expired ? EXPIRED : ['-days', DAYS], by)
  }

  /** The key of that name as PEM under a passphrase. */
  encryptedKey(name: string, passphrase: string): string {
    const key = createPrivateKey(this.#read(`${name}.key`))
    return key.export({ type: 'pkcs8', format: 'pem', cipher: 'aes-256-cbc', passphrase }).toString()
  }

  fingerprint(name: string): string {
    return new X509Certificate(this.#read(`${name}.crt`)).fingerprint256
  }

  /** Arguments for a redis-server that also listens with TLS. */
  serverArguments(port: number, name = 'server'): string[] {
    const files = { cert: `${name}.crt`, key: `${name}.key`, 'ca-cert': 'ca.crt' }
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

  #sign(name: string, extensions: string, validity = ['-days', DAYS], by: Certificates = this): void {
    writeFileSync(this.path(`${name}.ext`), extensions)
    this.#run('req', ...newKey(name), '-subj', `/CN=${name}`, '-out', `${name}.csr`)
    const authority = ['-CA', by.path('ca.crt'), '-CAkey', by.path('ca.key'), '-CAcreateserial']
    const files = ['-in', `${name}.csr`, '-out', `${name}.crt`, '-extfile', `${name}.ext`]
    this.#run('x509', '-req', ...authority, ...files, ...validity)
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
