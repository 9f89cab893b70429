import type { types } from 'mediasoup-client';
import { displayNameOf, type Source } from './participants';
import type { ServerEvents } from './protocol';
import type { Offered } from './reception';

/** A producer of someone else. What the server says of it while it is on its way to being received holds. */
export interface Offer extends Offered {
  readonly event: ServerEvents['newProducer'];
  /** Of slots: whoever is there now. */
  participantId: string;
  source: Source;
  /**
   * `slot`: of the stage; whose it is changes. `listed`: of someone in a room with a stage, and received only where the
   * page asks for it.
   */
  way: 'offered' | 'slot' | 'listed';
  readonly displayName: string | undefined;
  /** Known once the server has answered. */
  consumerId: string | undefined;
  consumer: types.Consumer | undefined;
  /** Of what is received beside the stage: something has come. Until then whoever is there is shown from there. */
  isFlowing: boolean;
  isUnderWay: boolean;
  /** It cannot be received, which asking again would not mend. */
  hasFailed: boolean;
  /** Its owner paused it. */
  paused: boolean;
  /** Its track, or its owner, is gone. */
  isWithdrawn: boolean;
}

/** One that nobody has asked for yet. */
export function newOffer(
  event: ServerEvents['newProducer'],
  source: Source,
  way: Offer['way'],
): Offer {
  const { participantId, producerId, appData = {} } = event;
  return {
    ...{ event, participantId, producerId, source, way, displayName: displayNameOf(appData) },
    ...{ consumerId: undefined, consumer: undefined, isFlowing: false, isUnderWay: false },
    ...{ hasFailed: false, paused: false, isWithdrawn: false },
  };
}

/** One source of one participant, which may be on stage, received besides, or both. */
export type Pair = Pick<Offered, 'participantId' | 'source'> & { displayName?: string | undefined };

/** Whose what it is. */
export function pairOf({ participantId, source }: Offer): Pair {
  return { participantId, source };
}

/** The same for equal pairs. */
export function keyOf({ participantId, source }: Pair): string {
  return `${source} ${participantId}`;
}

/** What of one pair is shown: what is received besides the stage, what is on it, what could be asked for. */
export function worth(offer: Offer | undefined): number {
  if (!offer) return 0;
  if (offer.way === 'slot') return offer.consumer ? 4 : 2;
  if (offer.isFlowing) return 5;
  return offer.consumer ? 3 : 1;
}
