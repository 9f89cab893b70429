import { MediasoupMeeting } from '@opencall/client';
import { createRoot } from 'react-dom/client';

// Someone else, without whom there is nobody to see.
createRoot(document.body.appendChild(document.createElement('div'))).render(
  <MediasoupMeeting
    meetingId="room-123"
    participantId="user-457"
    displayName="Jane Roe"
    enableEncryption
  />,
);
