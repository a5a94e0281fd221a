#!/usr/bin/env node
// Brings a fresh checkout on a Debian machine to where Perch can run. Plain JavaScript for the Node that the machine has:
// nothing is installed yet when it starts. Every step looks first and does only what is missing.
import { spawn, spawnSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { once } from 'node:events';
import { accessSync, chmodSync, constants, existsSync, readFileSync, writeFileSync } from 'node:fs';
import { delimiter, dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { backportsSource, compareVersions, debianMirror } from './apt.mjs';

const ROOT = join(dirname(fileURLToPath(import.meta.url)), '..');
const QEMU = '10.0';
const RUST = '1.85';
const NODE = '24.11';
const BACKPORTS_FILE = '/etc/apt/sources.list.d/perch-backports.sources';
const APT_LIMITS = [
  '-o',
  'Acquire::Retries=1',
  '-o',
  'Acquire::http::Timeout=20',
  '-o',
  'Acquire::https::Timeout=20',
];

/** Each Debian package that is needed, by a file that shows that it, or something as good, is there. */
const PACKAGES = {
  'qemu-system-x86': 'qemu-system-x86_64',
  'qemu-utils': 'qemu-img',
  'qemu-system-data': '/usr/share/qemu/qboot.rom',
  nftables: 'nft',
  iproute2: 'ip',
  'util-linux': 'setpriv',
  e2fsprogs: 'mke2fs',
  kmod: 'depmod',
  openssl: 'openssl',
  mmdebstrap: 'mmdebstrap',
  gcc: 'cc',
  'libc6-dev': '/usr/lib/x86_64-linux-gnu/libc.a',
};
/** The things that only tests need; a demo and a start do without. */
const TEST_PACKAGES = { chromium: '/usr/bin/chromium', curl: 'curl', git: 'git', 'python3-pip': 'pip3' };

const HELP = `Usage: npm run setup [-- --refresh]
       node scripts/bootstrap.mjs SCRIPT [ARG...]

Installs what Perch needs on this machine and builds its guest images. Run it again at any time:
it does only what is missing.

  1. Debian packages, by apt: ${Object.keys(PACKAGES).join(', ')};
     for tests ${Object.keys(TEST_PACKAGES).join(', ')}.
     QEMU ${QEMU} or newer; on Debian 12 it comes from bookworm-backports (${BACKPORTS_FILE}).
  2. npm packages, as package-lock.json names them.
  3. The system user \`perch\`.
  4. Guest agent, kernel, initramfs and base image, in PERCH_CACHE (default: ~/.cache/perch).

It needs x86-64 Linux with apt, root, Node 20 or newer, and Rust ${RUST} or newer.

  --refresh   build the kernel and the base image anew, with today's Debian packages
  --help      show this
  SCRIPT      run this afterwards, with the Node that Perch uses; progress goes to standard error then`;

class SetupError extends Error {
  constructor(message, remedy) {
    super(message);
    this.remedy = remedy;
  }
}

let progress = process.stdout;
await main(process.argv.slice(2));

async function main([first = '', ...args]) {
  if (first === '--help' || first === '-h') return console.log(HELP);
  // Standard output is that of the script that follows.
  if (first !== '' && first !== '--refresh') progress = process.stderr;
  try {
    checkMachine();
    adoptSudoUser();
    step('packages', () => installPackages(packagesFor(first)));
    step('toolchain', checkRust);
    step('node_modules', installNodeModules);
    step('user perch', createUser);
  } catch (error) {
    if (!(error instanceof SetupError)) throw error;
    console.error(`✗ ${error.message}\n  ${error.remedy}`);
    process.exit(1);
  }
  const status = await runScript('scripts/setup.ts', first === '--refresh' ? [first] : [], progress);
  process.exit(status || first === '' || first === '--refresh' ? status : await runScript(first, args));
}

/** A script of this checkout, by its own Node. Signals are the script's to answer: this only waits, and when it is killed, the script ends. */
async function runScript(script, args, output = process.stdout) {
  const command = ['--pdeathsig', 'TERM', node24(), join(ROOT, script), ...args];
  const child = spawn('setpriv', command, { stdio: ['inherit', output, 'inherit'], cwd: ROOT });
  // A terminal sends Ctrl-C to both: scripts take it twice.
  for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP']) process.on(signal, () => child.kill(signal));
  const [code] = await once(child, 'exit');
  return code ?? 1;
}

function say(line) {
  progress.write(`${line}\n`);
}

function step(name, work) {
  const start = performance.now();
  work();
  say(`✓ ${name} (${((performance.now() - start) / 1000).toFixed(1)} s)`);
}

function checkMachine() {
  if (process.platform !== 'linux' || process.arch !== 'x64') {
    throw new SetupError(
      `Perch runs on x86-64 Linux, not on ${process.platform} ${process.arch}`,
      'Use such a machine.',
    );
  }
  if (compareVersions(process.versions.node, '20') < 0) {
    throw new SetupError(`Node ${process.versions.node} is too old`, 'Install Node 20 or newer.');
  }
  if (process.getuid() !== 0) {
    const script = process.env.npm_lifecycle_event ?? 'setup';
    throw new SetupError(
      'Perch needs root, to make virtual machines and their networks',
      `sudo env "PATH=$PATH" npm run ${script}`,
    );
  }
  // Debian's sbin folders are not on everybody's PATH.
  process.env.PATH = [process.env.PATH, '/usr/local/sbin', '/usr/sbin', '/sbin'].join(delimiter);
  if (!find('apt-get')) throw new SetupError('apt-get is missing', 'Use Debian 12 or newer.');
}

/** Under sudo, Rust is where the user who called it has it. */
function adoptSudoUser() {
  const home = sudoUser()?.home;
  if (!home || find('cargo')) return;
  process.env.PATH += delimiter + join(home, '.cargo/bin');
  process.env.RUSTUP_HOME ??= join(home, '.rustup');
}

function sudoUser() {
  const uid = process.env.SUDO_UID;
  if (!uid || uid === '0') return undefined;
  const fields = readFileSync('/etc/passwd', 'utf8')
    .split('\n')
    .map((line) => line.split(':'));
  const entry = fields.find((field) => field[2] === uid);
  return entry && { uid: Number(uid), gid: Number(entry[3]), home: entry[5] };
}

/** A set-up without a script after it gets everything. */
function packagesFor(script) {
  const tests = ['', '--refresh', 'scripts/test.ts'].includes(script);
  return tests ? { ...PACKAGES, ...TEST_PACKAGES } : PACKAGES;
}

function installPackages(packages) {
  let missing = missingPackages(packages);
  if (missing.length === 0) return;
  const qemu = missing.filter((name) => name.startsWith('qemu'));
  const rest = missing.filter((name) => !name.startsWith('qemu'));
  say(`… packages: installing ${missing.join(', ')}`);
  // Its exit code is not judged: a source of somebody else's that cannot be reached is no matter.
  const update = () => run('apt-get', ['-q', ...APT_LIMITS, 'update']);
  update();
  if (qemu.length > 0 && addBackports()) update();
  const log = [];
  if (rest.length > 0) log.push(aptInstall(rest));
  if (qemu.length > 0)
    log.push(aptInstall(qemu, codename() === 'bookworm' ? ['-t', 'bookworm-backports'] : []));
  missing = missingPackages(packages);
  if (missing.length === 0) return;
  const target =
    codename() === 'bookworm' && missing.some((name) => name.startsWith('qemu'))
      ? '-t bookworm-backports '
      : '';
  throw new SetupError(
    `these packages are still missing: ${missing.join(', ')} (QEMU has to be ${QEMU} or newer)\n${log.join('').trimEnd()}`,
    `apt-get update && apt-get install --no-install-recommends ${target}${missing.join(' ')}`,
  );
}

function missingPackages(packages) {
  const missing = Object.keys(packages).filter((name) => !find(packages[name]));
  if (!missing.includes('qemu-system-x86') && compareVersions(versionOf('qemu-system-x86_64'), QEMU) < 0) {
    missing.push('qemu-system-x86', 'qemu-utils');
  }
  return [...new Set(missing)];
}

/** Gives what apt printed when it failed; the caller looks for itself at what is there now. */
function aptInstall(packages, options = []) {
  const result = run(
    'apt-get',
    ['install', '-y', '-q', '--no-install-recommends', ...APT_LIMITS, ...options, ...packages],
    {
      DEBIAN_FRONTEND: 'noninteractive',
    },
  );
  return result.status === 0 ? '' : `${result.stdout}${result.stderr}`.split('\n').slice(-12).join('\n');
}

/** QEMU 10 is in Debian 12's backports, on the same mirror. Gives true when apt has a new source. */
function addBackports() {
  if (codename() !== 'bookworm') return false;
  const indexes = run('apt-get', [
    'indextargets',
    '--format',
    '$(CODENAME) $(REPO_URI) $(SOURCESENTRY)',
    'Identifier: Packages',
  ]);
  if (/^bookworm-backports /m.test(indexes.stdout) || existsSync(BACKPORTS_FILE)) return false;
  const mirror = debianMirror(indexes.stdout, 'bookworm', (file) => readFileSync(file, 'utf8'));
  writeFileSync(BACKPORTS_FILE, backportsSource(mirror));
  // apt reads it as a user of its own, too.
  chmodSync(BACKPORTS_FILE, 0o644);
  say(`… packages: added ${BACKPORTS_FILE}`);
  return true;
}

function codename() {
  return /^VERSION_CODENAME=(.*)$/m.exec(readFileSync('/etc/os-release', 'utf8'))?.[1];
}

function checkRust() {
  const version = versionOf('rustc');
  if (find('cargo') && compareVersions(version, RUST) >= 0) return;
  throw new SetupError(
    version === '0' ? 'Rust is missing' : `Rust ${version} is too old; ${RUST} or newer is needed`,
    codename() === 'bookworm'
      ? 'Install it with rustup (https://rustup.rs): rustup toolchain install stable --profile minimal'
      : 'apt-get install cargo rustc, or install it with rustup (https://rustup.rs)',
  );
}

/**
 * Installs what package-lock.json names, as the owner of the checkout, unless node_modules was made from the same file.
 * Not by `npm ci`: it refuses a lock file without the optional packages of other platforms, and some registries lack those.
 */
function installNodeModules() {
  const stamp = join(ROOT, 'node_modules/.perch-stamp');
  const digest = createHash('sha256')
    .update(readFileSync(join(ROOT, 'package-lock.json')))
    .digest('hex');
  if (existsSync(stamp) && readFileSync(stamp, 'utf8') === digest) return;
  say('… node_modules: npm install');
  const user = sudoUser();
  const owner = user ? { uid: user.uid, gid: user.gid, env: { ...process.env, HOME: user.home } } : {};
  const result = spawnSync('npm', ['install', '--no-save', '--no-audit', '--no-fund', '--loglevel=error'], {
    cwd: ROOT,
    encoding: 'utf8',
    ...owner,
  });
  if (result.status !== 0) {
    const reason = (result.stderr ?? String(result.error)).split('\n').slice(0, 12).join('\n');
    throw new SetupError(
      `npm install failed:\n${reason}`,
      'See whether npm reaches its registry, then: npm install --no-save',
    );
  }
  writeFileSync(stamp, digest);
}

function createUser() {
  if (/^perch:/m.test(readFileSync('/etc/passwd', 'utf8'))) return;
  const args = [
    '--system',
    '--user-group',
    '--no-create-home',
    '--home-dir',
    '/nonexistent',
    '--shell',
    '/usr/sbin/nologin',
    'perch',
  ];
  const result = run('useradd', args);
  if (result.status !== 0)
    throw new SetupError(`the user perch could not be made: ${result.stderr}`, `useradd ${args.join(' ')}`);
}

function node24() {
  if (compareVersions(process.versions.node, NODE) >= 0) return process.execPath;
  return join(ROOT, 'node_modules/.bin/node');
}

/** The path of a program, or of a file that must exist; undefined when it is not there. */
function find(name) {
  const paths = name.startsWith('/')
    ? [name]
    : process.env.PATH.split(delimiter).map((folder) => join(folder, name));
  return paths.find((path) => {
    try {
      accessSync(path, name.startsWith('/') ? constants.R_OK : constants.X_OK);
      return true;
    } catch {
      return false;
    }
  });
}

/** First version number that a program prints about itself, `0` when there is none. */
function versionOf(program) {
  return /\d+(\.\d+)+/.exec(run(program, ['--version']).stdout ?? '')?.[0] ?? '0';
}

function run(program, args, env = {}) {
  return spawnSync(program, args, {
    encoding: 'utf8',
    maxBuffer: 1 << 26,
    env: { ...process.env, LC_ALL: 'C', ...env },
  });
}
