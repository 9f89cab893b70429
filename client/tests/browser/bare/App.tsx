import { MediasoupMeeting } from '@opencall/client';

export function App() {
  return (
    <MediasoupMeeting
      meetingId="room-123"
      participantId="user-456"
      displayName="John Doe"
      enableEncryption={true}
      onLeave={() => console.log('Left meeting')}
    />
  );
}
