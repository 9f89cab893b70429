import { useEffect, useState } from 'react';

/** Whom the server lets in: everyone, or holders of join tokens. */
export type Doors = 'open' | 'tokens';

/** Asks the server this page came from; nothing while it has not answered, or does not say. */
export function useDoors(): Doors | undefined {
  const [doors, setDoors] = useState<Doors>();
  useEffect(() => {
    let isGone = false;
    askDoors().then(
      (found) => {
        if (!isGone) setDoors(found);
      },
      () => undefined,
    );
    return () => {
      isGone = true;
    };
  }, []);
  return doors;
}

async function askDoors(): Promise<Doors | undefined> {
  const answer = await fetch('/v1/server');
  const { auth } = await answer.json();
  return auth === 'open' || auth === 'tokens' ? auth : undefined;
}
