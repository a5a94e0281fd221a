/** `QEMU emulator version 10.0.2 (Debian 1:10.0.2+ds-2)` → `10.0.2` */
export function parseVersion(text: string): string | undefined {
  return /version (\d+\.\d+\.\d+)/.exec(text)?.[1];
}

export function isAtLeast(version: string, oldest: string): boolean {
  const [a, b] = [version, oldest].map((each) => each.split('.').map(Number));
  for (let i = 0; i < 3; i++) {
    const difference = (a?.[i] ?? 0) - (b?.[i] ?? 0);
    if (difference !== 0) return difference > 0;
  }
  return true;
}
