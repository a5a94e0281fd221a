/** The lab ended or stands still, whatever ran in it: nothing is known of that. */
export class LabDied extends Error {
  override readonly name = 'LabDied';
}
