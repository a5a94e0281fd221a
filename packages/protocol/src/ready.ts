/** Schemas of ready guests: guests that stand still until a create takes one over. */
import { type Static, Type } from 'typebox';
import { templateNamePattern } from './ids.ts';
import { limits } from './limits.ts';

const vcpus = Type.Integer({ minimum: limits.vcpus.min, maximum: limits.vcpus.max });
const memoryMb = Type.Integer({ minimum: limits.memoryMb.min, maximum: limits.memoryMb.max });
const diskMb = Type.Integer({ minimum: limits.diskMb.min, maximum: limits.diskMb.max });

const Count = Type.Union([Type.Integer({ minimum: 0, maximum: 1000 }), Type.Null()], {
  description:
    'So many stand ready, whatever is asked for; null: as many as the creates of the last minutes want.',
});

/** The guests of one template and shape. */
export const ReadyGuests = Type.Object(
  {
    template: Type.String(),
    vcpus: Type.Integer(),
    memory_mb: Type.Integer(),
    disk_mb: Type.Integer(),
    ready: Type.Integer({ description: 'Guests that wait for a create.' }),
    wanted: Type.Integer({ description: 'Guests that are to, where there is memory that nobody needs.' }),
    pinned: Type.Union([Type.Integer(), Type.Null()], {
      description: 'The number that was set; null: they follow the creates of the last minutes.',
    }),
    hits: Type.Integer({ description: 'Creates that took one over, since the host agent was started.' }),
    misses: Type.Integer({ description: 'Creates that found none.' }),
  },
  { $id: 'ReadyGuests' },
);
export type ReadyGuests = Static<typeof ReadyGuests>;
export const ReadyGuestsList = Type.Object({ items: Type.Array(ReadyGuests) }, { $id: 'ReadyGuestsList' });
export type ReadyGuestsList = Static<typeof ReadyGuestsList>;

export const PinReady = Type.Object(
  {
    count: Count,
    vcpus: Type.Optional({ ...vcpus, default: limits.vcpus.default }),
    memory_mb: Type.Optional({ ...memoryMb, default: limits.memoryMb.default }),
    disk_mb: Type.Optional({ ...diskMb, default: limits.diskMb.default }),
  },
  {
    $id: 'PinReady',
    additionalProperties: false,
    description: 'Of an image the shape is that of a create without wishes, unless the request says another.',
  },
);
export type PinReady = Static<typeof PinReady>;

export const TemplateParams = Type.Object({
  name: Type.String({ pattern: templateNamePattern, description: 'An image, or a snapshot.' }),
});

/** Of the host agent: the shape is whole, and that of the snapshot where the template is one. */
export const HostPinReady = Type.Object(
  {
    template: Type.String({ pattern: templateNamePattern }),
    ...{ vcpus, memory_mb: memoryMb, disk_mb: diskMb },
    count: Count,
  },
  { additionalProperties: false },
);
export type HostPinReady = Static<typeof HostPinReady>;
